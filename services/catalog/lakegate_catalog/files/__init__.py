"""Files of tables, for engines: an S3 endpoint with keys that are good for one table."""
