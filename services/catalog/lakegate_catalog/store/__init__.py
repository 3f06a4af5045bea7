"""The catalog store: a port, its PostgreSQL adapter, and the rules of names that stand on the port alone."""
