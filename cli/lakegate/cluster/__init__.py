"""Lakegate in a Kubernetes cluster, from the outside."""
