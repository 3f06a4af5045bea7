"""A small Kubernetes: an API server, and the controllers around it."""
