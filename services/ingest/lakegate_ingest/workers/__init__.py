"""Loads in processes of their own: another replica that takes exactly one load, and ends with it."""
