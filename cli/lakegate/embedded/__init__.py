"""What the embedded suite runs on: a real PostgreSQL server, its roles, schemas and migrations."""
