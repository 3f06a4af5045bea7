"""The catalog store: a port, its adapters (PostgreSQL, MongoDB), and the rules of names that stand on the port."""
