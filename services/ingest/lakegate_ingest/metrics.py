"""What ingest counts. Labels are bounded: problem slugs, states and phases, never names that callers choose."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LOADS = Counter(
    "lakegate_ingest_loads_total", "Loads that ended, by outcome (completed, dry_run, replayed, failed)", ["outcome"]
)
FAILURES = Counter("lakegate_ingest_failures_total", "Loads that failed or were refused, by problem", ["problem"])
ROWS = Counter("lakegate_ingest_rows_total", "Rows of completed loads", ["kind"])
RECEIVED_BYTES = Counter("lakegate_ingest_received_bytes_total", "Bytes of bodies, as sent")
COMMIT_RETRIES = Counter("lakegate_ingest_commit_retries_total", "Commits tried again, by reason", ["reason"])
RECOVERED = Counter(
    "lakegate_ingest_recovered_total", "Loads taken over from dead processes, by what was done", ["action"]
)
ORPHANS = Counter("lakegate_ingest_orphan_files_deleted_total", "Files of failed loads that the sweep deleted")
PRUNED = Counter("lakegate_ingest_pruned_total", "What retention deleted", ["kind"])
REMOTE_SPOOL = Counter(
    "lakegate_ingest_remote_spool_files_total",
    "Files of the spool in the object store: stored, failed (kept on the local disk only), fetched by another replica",
    ["outcome"],
)
DELEGATED = Counter(
    "lakegate_ingest_delegated_loads_total",
    "Loads given to a worker, by outcome: ended, gone (it died; the load is given again), refused, not started",
    ["outcome"],
)
UPLOADS_SWEPT = Counter("lakegate_ingest_uploads_deleted_total", "Files uploaded by presigned URL that were deleted")
EARLY_READS = Counter(
    "lakegate_ingest_early_reads_total", "Readings begun during the upload: used, dropped", ["outcome"]
)
QUEUED = Gauge("lakegate_ingest_queued_loads", "Loads that wait for a worker")
RECEIVING = Gauge("lakegate_ingest_receiving_loads", "Bodies being received")
RUNNING = Gauge("lakegate_ingest_running_loads", "Loads being read or committed")
SPOOL_BYTES = Gauge("lakegate_ingest_spool_bytes", "Bytes of received files in the spool")
SPOOL_REUSABLE = Gauge(
    "lakegate_ingest_spool_reusable_bytes", "Bytes of files of loads that have ended, kept to be written over"
)
SPOOL_MAX = Gauge("lakegate_ingest_spool_max_bytes", "Bytes that the spool may hold (INGEST_SPOOL__QUOTA_BYTES)")
CATALOG_UP = Gauge("lakegate_ingest_catalog_up", "1 when the catalog answered the last sweep's question, else 0")
PROGRESS_STREAMS = Gauge("lakegate_ingest_progress_streams", "Open progress streams (SSE)")
ROW_STREAMS = Gauge("lakegate_ingest_row_streams", "Open downloads of rows")
PHASE_SECONDS = Histogram(
    "lakegate_ingest_phase_duration_seconds",
    "Time of a load by phase (receive, queue, read, commit), and from its last byte until its rows are readable",
    ["phase"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900),
)
STREAM_REQUESTS = Counter(
    "lakegate_ingest_stream_requests_total",
    "Requests and messages to streams, by outcome (accepted, or a problem)",
    ["outcome"],
)
STREAM_ROWS = Counter(
    "lakegate_ingest_stream_rows_total",
    "Rows of streams: accepted (on the brokers), committed (in a table), rejected (set aside by the worker)",
    ["kind"],
)
STREAM_COMMITS = Counter(
    "lakegate_ingest_stream_commits_total",
    "Commits of streams: committed, superseded (another worker had been there), failed",
    ["outcome"],
)
STREAM_RETRIES = Counter("lakegate_ingest_stream_commit_retries_total", "Commits tried again, by reason", ["reason"])
STREAM_EXPIRED = Counter(
    "lakegate_ingest_stream_records_expired_total", "Records that Kafka's retention removed before they were committed"
)
STREAM_RECREATED = Counter(
    "lakegate_ingest_stream_topic_recreated_total",
    "Times that a stream was not gone on with, since its topic was deleted and made again",
)
STREAM_LAG = Gauge(
    "lakegate_ingest_stream_lag_records", "Records that are not in the table yet, of this worker's share", ["stream"]
)
STREAM_FRESHNESS = Gauge(
    "lakegate_ingest_stream_freshness_seconds", "Age of the oldest record that is not in the table yet", ["stream"]
)
STREAM_DELAY = Histogram(
    "lakegate_ingest_stream_delay_seconds",
    "Time from a record's arrival at the broker to the commit of its table, the oldest of each commit",
    buckets=(0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 3600),
)
STREAM_COMMIT_SECONDS = Histogram(
    "lakegate_ingest_stream_commit_duration_seconds",
    "Time of a commit by phase (read, commit)",
    ["phase"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STREAM_IN_FLIGHT_BYTES = Gauge("lakegate_ingest_stream_in_flight_bytes", "Bytes received and not acknowledged yet")
STREAM_SOCKETS = Gauge("lakegate_ingest_stream_sockets", "Open WebSocket producers")
STREAM_TAILS = Gauge("lakegate_ingest_stream_tails", "Open tails (SSE)")


def commit_retries() -> dict[str, int]:
    """Of this process, by reason: a worker tells them to who follows it."""
    samples = (sample for metric in COMMIT_RETRIES.collect() for sample in metric.samples)
    return {sample.labels["reason"]: int(sample.value) for sample in samples if sample.name.endswith("_total")}
