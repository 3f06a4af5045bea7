"""Datasets: every node of the catalog, with owner, tags, versions and diff."""
