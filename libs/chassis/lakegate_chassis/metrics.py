"""Metrics that every service has. Names follow Prometheus: base units, `_total`, bounded labels.

docs/metrics.md is generated from these declarations, in every package; help texts are what an operator reads.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "lakegate_http_requests_total",
    "Requests answered, by route template and class of tenant",
    ["method", "route", "status", "tenant_class"],
)
LATENCY = Histogram(
    "lakegate_http_request_duration_seconds",
    "Time from the request line to the last byte of the answer; buckets carry trace ids as exemplars (OpenMetrics)",
    ["method", "route", "tenant_class"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
IN_FLIGHT = Gauge("lakegate_http_requests_in_flight", "Requests being served")
DISCONNECTS = Counter("lakegate_http_disconnects_total", "Clients that left before their answer was complete")
BUILD_INFO = Gauge("lakegate_build_info", "Always 1; the labels tell what runs", ["service", "version", "environment"])
BACKGROUND_RESTARTS = Counter(
    "lakegate_background_restarts_total", "Background tasks that failed and were started again", ["task"]
)
BACKGROUND_RUNNING = Gauge("lakegate_background_running", "1 while the background task runs", ["task"])
LOOP_LAG = Histogram(
    "lakegate_event_loop_lag_seconds",
    "How much later than asked the event loop woke up, asked twice a second: work that blocks it shows here",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
LOG_RECORDS = Counter("lakegate_log_records_total", "Log lines written, access lines left out", ["level"])

UPSTREAM_CALLS = Counter(
    "lakegate_upstream_calls_total",
    "Calls from this service to another; outcome is answered, or in a word why not",
    ["upstream", "outcome"],
)
UPSTREAM_SECONDS = Histogram(
    "lakegate_upstream_call_duration_seconds",
    "Time from a call's start to the head of its answer (composite reads and calls between services; relayed "
    "requests are in lakegate_http_request_duration_seconds)",
    ["upstream"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)

POOL_CONNECTIONS = Gauge(
    "lakegate_postgres_connections", "Connections of the pool: open, and idle among them", ["state"]
)
POOL_MAX = Gauge("lakegate_postgres_connections_max", "Connections that the pool may open")
POOL_WAITING = Gauge("lakegate_postgres_waiting", "Callers that wait for a connection of the pool")
POOL_WAIT_SECONDS = Histogram(
    "lakegate_postgres_acquire_seconds",
    "Time a caller waited for a connection of the pool",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)
POOL_REFUSALS = Counter(
    "lakegate_postgres_unavailable_total", "Times that no connection was to be had, or it broke", ["reason"]
)

CACHE_LOOKUPS = Counter("lakegate_cache_lookups_total", "Look-ups in a cache", ["cache", "outcome"])
CACHE_ENTRIES = Gauge("lakegate_cache_entries", "Entries that a cache holds", ["cache"])

TRACE_SPANS = Counter(
    "lakegate_trace_spans_total",
    "Spans by what became of them: exported, failed (refused or lost), dropped",
    ["outcome"],
)
TRACE_QUEUE = Gauge("lakegate_trace_queue_spans", "Spans that wait to be exported")
