"""Who calls, and what the services behind are told about it."""
