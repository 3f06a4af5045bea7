"""Event streams: rows by HTTP, WebSocket or Kafka itself, committed to Iceberg exactly once.

The front half (`service`, `endpoints`, `sockets`, `tails`) is served by the API; the back half (`worker`, `pump`,
`commits`) runs as a background task of the API's process, or as one of its own: `python -m lakegate_ingest.streams`.
"""
