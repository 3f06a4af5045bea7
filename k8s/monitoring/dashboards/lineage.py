"""Lineage: OpenLineage events in, the graph out."""

from __future__ import annotations

from dashboards.panels import NS, NUMBER, PER_SECOND, REQUESTS, SECONDS, Dashboard, Panel, Row, by_route, quantile, rate

HERE = f'{NS}, job="lineage", route!~"/(livez|readyz|startupz)"'

LINEAGE = Dashboard(
    "lineage",
    "Lakegate lineage",
    "OpenLineage events that were posted, the writer's queue and batches, and questions to the graph.",
    [
        Row(
            "Events in",
            [
                Panel(
                    "Events written",
                    "Committed events a second, repeats included.",
                    PER_SECOND,
                    [(rate("lakegate_lineage_events_written_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Events not taken",
                    "Shed: answered 503, since the queue was full. Refused: could not be stored. Zero is good.",
                    PER_SECOND,
                    [
                        (f"sum(rate(lakegate_lineage_events_shed_total{{{NS}}}[$__rate_interval]))", "shed"),
                        (f"sum(rate(lakegate_lineage_events_refused_total{{{NS}}}[$__rate_interval]))", "refused"),
                    ],
                ),
                Panel(
                    "Events that wait",
                    "In the writer's queue, by process; beyond LINEAGE_EVENTS__QUEUE_EVENTS posts are answered 503.",
                    NUMBER,
                    [(f"lakegate_lineage_events_queued{{{NS}}}", "{{pod}}")],
                    limit=4000,
                ),
                Panel(
                    "Events in a transaction",
                    "Mean and 95%: larger under load, which is what makes it fast.",
                    NUMBER,
                    [
                        (
                            f"sum(rate(lakegate_lineage_batch_events_sum{{{NS}}}[$__rate_interval])) / sum(rate(lakegate_lineage_batch_events_count{{{NS}}}[$__rate_interval]))",
                            "mean",
                        ),
                        (quantile(0.95, "lakegate_lineage_batch_events", "job"), "95%"),
                    ],
                ),
                Panel(
                    "A transaction takes",
                    "Half and 99% of them, with their retries.",
                    SECONDS,
                    [
                        (quantile(0.5, "lakegate_lineage_batch_seconds", "job"), "50%"),
                        (quantile(0.99, "lakegate_lineage_batch_seconds", "job"), "99%"),
                    ],
                ),
                Panel(
                    "Rows deleted by retention",
                    "By table, within an hour.",
                    NUMBER,
                    [(f"sum by (table) (increase(lakegate_lineage_pruned_total{{{NS}}}[1h]))", "{{table}}")],
                ),
            ],
        ),
        Row(
            "Requests",
            [
                *by_route(HERE, "By route: posts of events, and questions to the graph."),
                Panel(
                    "Requests by status",
                    "503 on a post: the queue was full.",
                    REQUESTS,
                    [(rate("lakegate_http_requests_total", "status", HERE), "{{status}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "From the event log",
            [
                Panel(
                    "Runs of loads handled",
                    "Events of group lineage a second.",
                    PER_SECOND,
                    [(rate("lakegate_events_handled_total", "type", f'{NS}, group="lineage"'), "{{type}}")],
                ),
                Panel(
                    "Positions behind",
                    "Of the group's active members.",
                    NUMBER,
                    [
                        (
                            f'max by (pod) (lakegate_events_lag{{{NS}, group="lineage"}} and lakegate_events_group_active{{{NS}, group="lineage"}} == 1)',
                            "{{pod}}",
                        )
                    ],
                    limit=10000,
                ),
            ],
        ),
    ],
)
