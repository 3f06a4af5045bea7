"""Metrics that every service has. Names follow Prometheus: base units, `_total`, bounded labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "lakegate_http_requests_total", "Requests answered, by route template", ["method", "route", "status"]
)
LATENCY = Histogram(
    "lakegate_http_request_duration_seconds",
    "Time from the request line to the last byte of the answer",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
IN_FLIGHT = Gauge("lakegate_http_requests_in_flight", "Requests being served")
DISCONNECTS = Counter("lakegate_http_disconnects_total", "Clients that left before their answer was complete")
BUILD_INFO = Gauge("lakegate_build_info", "Always 1; the labels tell what runs", ["service", "version", "environment"])
BACKGROUND_RESTARTS = Counter(
    "lakegate_background_restarts_total", "Background tasks that failed and were started again", ["task"]
)
BACKGROUND_RUNNING = Gauge("lakegate_background_running", "1 while the background task runs", ["task"])
UPSTREAM_CALLS = Counter("lakegate_upstream_calls_total", "Calls from this service to another", ["upstream", "outcome"])
POOL_CONNECTIONS = Gauge("lakegate_postgres_connections", "Connections of the pool", ["state"])
