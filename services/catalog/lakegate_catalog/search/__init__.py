"""Search over the change feed."""
