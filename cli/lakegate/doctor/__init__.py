"""Whether a cluster can take an installation: questions to its API server, and nothing changed there."""
