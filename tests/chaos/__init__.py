"""Faults during load, and the accounting of what was lost, doubled or left hanging: `make chaos` (docs/chaos.md)."""
