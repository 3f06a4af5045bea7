"""What the gateway counts beside what every service does. Labels are bounded: services, words of ours."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CONNECTIONS = Gauge(
    "lakegate_gateway_upstream_connections",
    "Connections to a service: in_use (one for each request under way), idle",
    ["upstream", "state"],
)
CONNECTIONS_MAX = Gauge(
    "lakegate_gateway_upstream_connections_max", "Requests under way to a service at most; then 503", ["upstream"]
)
REPEATS = Counter(
    "lakegate_gateway_repeats_total",
    "Relayed reads whose first try did not reach the service: repeated, or refused since the budget was spent",
    ["upstream", "outcome"],
)
BREAKER_OPEN = Gauge(
    "lakegate_gateway_breaker_open",
    "1 while a service can't be reached and requests to it are answered 503 at once, but for one try a second",
    ["upstream"],
)
BREAKER_OPENED = Counter("lakegate_gateway_breaker_opened_total", "Times that the breaker opened", ["upstream"])
