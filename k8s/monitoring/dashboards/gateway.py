"""The front door: who asks what, how it is answered, and how the services behind it stand."""

from __future__ import annotations

from dashboards.panels import (
    NS,
    NUMBER,
    PER_SECOND,
    REQUESTS,
    SECONDS,
    SHARE,
    SWITCH,
    Dashboard,
    Panel,
    Row,
    quantile,
    rate,
)  # fmt: skip

HERE = f'{NS}, job="gateway", route!~"/(livez|readyz|startupz|metrics|loglevel)"'
ALL_HERE = f'{NS}, job="gateway"'

GATEWAY = Dashboard(
    "gateway",
    "Lakegate gateway",
    "Requests by route, class of tenant and status; connections, breakers and repeats by service; credentials.",
    [
        Row(
            "Requests",
            [
                Panel(
                    "Requests by route",
                    "Answered requests a second.",
                    REQUESTS,
                    [(rate("lakegate_http_requests_total", "route", HERE), "{{route}}")],
                    stacked=True,
                ),
                Panel(
                    "Requests by status",
                    "4xx is the caller's, 5xx is ours.",
                    REQUESTS,
                    [(rate("lakegate_http_requests_total", "status", HERE), "{{status}}")],
                    stacked=True,
                ),
                Panel(
                    "Requests by class of tenant",
                    "What GATEWAY_TENANT_CLASSES says of the caller's tenant; none: nobody known yet.",
                    REQUESTS,
                    [(rate("lakegate_http_requests_total", "tenant_class", HERE), "{{tenant_class}}")],
                    stacked=True,
                ),
                Panel(
                    "99% of requests take less than",
                    "By route, from the request line to the last byte. Exemplars lead to traces.",
                    SECONDS,
                    [(quantile(0.99, "lakegate_http_request_duration_seconds", "route", HERE), "{{route}}")],
                    exemplars=True,
                ),
                Panel(
                    "Half of requests take less than",
                    "By route.",
                    SECONDS,
                    [(quantile(0.5, "lakegate_http_request_duration_seconds", "route", HERE), "{{route}}")],
                ),
                Panel(
                    "Requests under way",
                    "In each process; beyond its limit the answer is 503.",
                    NUMBER,
                    [(f"lakegate_http_requests_in_flight{{{ALL_HERE}}}", "{{pod}}")],
                ),
                Panel(
                    "Clients that left",
                    "Before their answer was complete.",
                    PER_SECOND,
                    [(rate("lakegate_http_disconnects_total", "job", ALL_HERE), "{{job}}")],
                ),
            ],
        ),
        Row(
            "Services behind it",
            [
                Panel(
                    "Calls by outcome",
                    "answered, or in a word why not.",
                    REQUESTS,
                    [
                        (
                            rate("lakegate_upstream_calls_total", "upstream, outcome", ALL_HERE),
                            "{{upstream}} {{outcome}}",
                        )
                    ],
                    stacked=True,
                ),
                Panel(
                    "Breakers that are open",
                    "The service can't be reached: requests to it are answered 503 at once.",
                    SWITCH,
                    [(f"max by (upstream) (lakegate_gateway_breaker_open{{{NS}}})", "{{upstream}}")],
                    limit=1,
                ),
                Panel(
                    "Breakers opened",
                    "Times within five minutes.",
                    NUMBER,
                    [
                        (
                            f"sum by (upstream) (increase(lakegate_gateway_breaker_opened_total{{{NS}}}[5m]))",
                            "{{upstream}}",
                        )
                    ],
                ),
                Panel(
                    "Connections in use",
                    "Share of the requests that may be under way to a service; then 503.",
                    SHARE,
                    [
                        (
                            f'max by (upstream) (lakegate_gateway_upstream_connections{{{NS}, state="in_use"}} / ignoring (state) lakegate_gateway_upstream_connections_max{{{NS}}})',
                            "{{upstream}}",
                        )
                    ],
                    limit=0.8,
                ),
                Panel(
                    "Connections kept",
                    "Idle connections to each service.",
                    NUMBER,
                    [
                        (
                            f'sum by (upstream) (lakegate_gateway_upstream_connections{{{NS}, state="idle"}})',
                            "{{upstream}}",
                        )
                    ],
                ),
                Panel(
                    "Reads repeated",
                    "Their first try did not reach the service: repeated, or refused since the budget was spent. Zero is usual.",
                    PER_SECOND,
                    [
                        (
                            f"{rate('lakegate_gateway_repeats_total', 'upstream, outcome')} or 0 * max by (upstream) (lakegate_gateway_breaker_open{{{NS}}})",
                            "{{upstream}} {{outcome}}",
                        )
                    ],
                ),
            ],
        ),
        Row(
            "Credentials",
            [
                Panel(
                    "Verified from the cache",
                    "Share of API keys and tokens that needed no look at the database.",
                    SHARE,
                    [
                        (
                            f'sum(rate(lakegate_cache_lookups_total{{{NS}, cache="credentials", outcome="hit"}}[$__rate_interval])) / sum(rate(lakegate_cache_lookups_total{{{NS}, cache="credentials"}}[$__rate_interval]))',
                            "hits",
                        )
                    ],
                ),
                Panel(
                    "Credentials kept",
                    "Entries of the gateway's caches.",
                    NUMBER,
                    [(f"sum by (cache) (lakegate_cache_entries{{{ALL_HERE}}})", "{{cache}}")],
                ),
                Panel(
                    "Revocations heard of",
                    "Every replica hears of each, within an hour.",
                    NUMBER,
                    [(f"sum by (pod) (increase(lakegate_gateway_revocations_total{{{NS}}}[1h]))", "{{pod}}")],
                ),
            ],
        ),
    ],
)
