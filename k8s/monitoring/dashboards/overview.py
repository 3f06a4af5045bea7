"""Is it well? The objectives first, then what each service has of what all services have."""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    NS,
    NUMBER,
    PER_SECOND,
    PROBES,
    REQUESTS,
    SECONDS,
    SHARE,
    Dashboard,
    Panel,
    Row,
    quantile,
    rate,
)  # fmt: skip


def _objective(slo: str, title: str, description: str) -> Panel:
    ratio = f'1 - lakegate:slo_errors:ratio_1h{{slo="{slo}", {NS}}}'
    return Panel(title, description, SHARE, [(ratio, "{{namespace}}")], kind="number", width=6)


OVERVIEW = Dashboard(
    "overview",
    "Lakegate overview",
    "The objectives and what burns their budget; traffic, errors and resources of every service.",
    [
        Row(
            "Objectives, over the last hour",
            [
                _objective(
                    "availability", "Availability", "Requests at the gateway not answered 5xx; objective 99.9%."
                ),
                _objective("latency", "Latency", "Reads at the gateway within 0.25 s; objective 99%."),
                _objective("freshness", "Freshness", "Loads readable within 60 s of their last byte; objective 99%."),
                _objective("lag", "Lag", "Time in which no event in hand was older than 60 s; objective 99%."),
                Panel(
                    "How fast budgets burn",
                    "1 spends a month's budget in a month. Above 14.4 for an hour, or 6 for six hours, somebody is called.",
                    NUMBER,
                    [
                        (
                            f"lakegate:slo_errors:ratio_1h{{{NS}}} / on (slo) group_left () (1 - lakegate:slo_objective)",
                            "{{slo}}",
                        )
                    ],
                    limit=14.4,
                    width=12,
                ),
                Panel(
                    "Alerts that fire",
                    "Each has a page in docs/runbooks. Zero when none fires.",
                    NUMBER,
                    [
                        (
                            f'sum by (alertname, severity) (ALERTS{{alertname=~"Lakegate.*", alertstate="firing", {NS}}}) or vector(0)',
                            "{{alertname}} {{severity}}",
                        )
                    ],
                    width=12,
                ),
            ],
        ),
        Row(
            "Traffic",
            [
                Panel(
                    "Requests by service",
                    "Answered requests a second, probes left out.",
                    REQUESTS,
                    [(rate("lakegate_http_requests_total", "job", f"{NS}, {PROBES}"), "{{job}}")],
                    stacked=True,
                ),
                Panel(
                    "Share answered 5xx",
                    "Of each service's requests. The gateway's is what clients see.",
                    SHARE,
                    [
                        (
                            f'(sum by (job) (rate(lakegate_http_requests_total{{{NS}, {PROBES}, status=~"5.."}}[$__rate_interval])) or 0 * {rate("lakegate_http_requests_total", "job", f"{NS}, {PROBES}")}) / {rate("lakegate_http_requests_total", "job", f"{NS}, {PROBES}")}',
                            "{{job}}",
                        )
                    ],
                    limit=0.001,
                ),
                Panel(
                    "99% of requests take less than",
                    "By service; long loads and streams included.",
                    SECONDS,
                    [(quantile(0.99, "lakegate_http_request_duration_seconds", "job", f"{NS}, {PROBES}"), "{{job}}")],
                    exemplars=True,
                ),
            ],
        ),
        Row(
            "Every service",
            [
                Panel(
                    "Processes",
                    "Processes that answer scrapes, by service and version: two versions only during a rollout.",
                    NUMBER,
                    [(f"sum by (job, version) (lakegate_build_info{{{NS}}})", "{{job}} {{version}}")],
                ),
                Panel(
                    "Memory",
                    "Resident memory of each process.",
                    BYTES,
                    [
                        (
                            f'process_resident_memory_bytes{{{NS}, job=~"gateway|catalog|ingest|stream-worker|lineage"}}',
                            "{{job}} {{pod}}",
                        )
                    ],
                ),
                Panel(
                    "CPU",
                    "Cores in use by each process.",
                    NUMBER,
                    [
                        (
                            f'rate(process_cpu_seconds_total{{{NS}, job=~"gateway|catalog|ingest|stream-worker|lineage"}}[$__rate_interval])',
                            "{{job}} {{pod}}",
                        )
                    ],
                ),
                Panel(
                    "Event loop late by",
                    "99% of wake-ups are at most this late. Above 0.1 s something blocks the loop, or there is too little CPU.",
                    SECONDS,
                    [(quantile(0.99, "lakegate_event_loop_lag_seconds", "job"), "{{job}}")],
                    limit=0.1,
                ),
                Panel(
                    "Connections of the pools in use",
                    "Share of the connections to PostgreSQL that a process may open.",
                    SHARE,
                    [
                        (
                            f'max by (job, pod) ((lakegate_postgres_connections{{{NS}, state="open"}} - ignoring (state) lakegate_postgres_connections{{{NS}, state="idle"}}) / ignoring (state) lakegate_postgres_connections_max{{{NS}}})',
                            "{{job}} {{pod}}",
                        )
                    ],
                    limit=0.9,
                ),
                Panel(
                    "Wait for a connection",
                    "99% of callers wait at most this long for a connection to PostgreSQL.",
                    SECONDS,
                    [(quantile(0.99, "lakegate_postgres_acquire_seconds", "job"), "{{job}}")],
                ),
                Panel(
                    "Background tasks started again",
                    "A supervised loop failed, within five minutes. Zero is good.",
                    NUMBER,
                    [
                        (
                            f"sum by (job, task) (increase(lakegate_background_restarts_total{{{NS}}}[5m])) or 0 * sum by (job, task) (lakegate_background_running{{{NS}}})",
                            "{{job}} {{task}}",
                        )
                    ],
                ),
                Panel(
                    "Log lines",
                    "Lines a second by level, access lines left out.",
                    PER_SECOND,
                    [(rate("lakegate_log_records_total", "job, level"), "{{job}} {{level}}")],
                ),
                Panel(
                    "Cache hits",
                    "Share of look-ups that a cache could answer.",
                    SHARE,
                    [
                        (
                            f'sum by (cache) (rate(lakegate_cache_lookups_total{{{NS}, outcome="hit"}}[$__rate_interval])) / {rate("lakegate_cache_lookups_total", "cache")}',
                            "{{cache}}",
                        )
                    ],
                ),
            ],
        ),
    ],
)
