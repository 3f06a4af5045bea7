"""The catalog: commits to tables, the Iceberg routes, search, metadata."""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    NS,
    NUMBER,
    PER_SECOND,
    REQUESTS,
    SECONDS,
    SHARE,
    Dashboard,
    Panel,
    Row,
    by_route,
    quantile,
    rate,
)

HERE = f'{NS}, job="catalog", route!~"/(livez|readyz|startupz)"'
COMMIT = f'{NS}, job="catalog", method="POST", route="/iceberg/v1/{{prefix}}/namespaces/{{namespace}}/tables/{{table}}"'

CATALOG = Dashboard(
    "catalog",
    "Lakegate catalog",
    "Iceberg commits and reads, search, the cache of metadata, and the document store's relay.",
    [
        Row(
            "Commits",
            [
                Panel(
                    "Commits by outcome",
                    "committed, lost race (tried again inside), or the Iceberg error that was answered.",
                    PER_SECOND,
                    [(rate("lakegate_catalog_commits_total", "outcome"), "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Commits take",
                    "Half and 99% of the commits' requests, in the catalog.",
                    SECONDS,
                    [
                        (quantile(0.5, "lakegate_http_request_duration_seconds", "job", COMMIT), "50%"),
                        (quantile(0.99, "lakegate_http_request_duration_seconds", "job", COMMIT), "99%"),
                    ],
                    exemplars=True,
                ),
                Panel(
                    "Commits by status",
                    "409 lost a race for good; 5xx is ours.",
                    REQUESTS,
                    [(rate("lakegate_http_requests_total", "status", COMMIT), "{{status}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Requests",
            [
                *by_route(HERE, "By route, in the catalog."),
                Panel(
                    "Iceberg metrics reports",
                    "Scan and commit reports of clients.",
                    PER_SECOND,
                    [(rate("lakegate_catalog_metrics_reports_total", "report"), "{{report}}")],
                ),
            ],
        ),
        Row(
            "Search",
            [
                Panel(
                    "Position of the index",
                    "Of the event log, by process. Replicas are to be at the same.",
                    NUMBER,
                    [(f"lakegate_catalog_search_position{{{NS}}}", "{{pod}}")],
                ),
                Panel(
                    "Replicas apart",
                    "Positions between the newest and the oldest index.",
                    NUMBER,
                    [
                        (
                            f"max(lakegate_catalog_search_position{{{NS}}}) - min(lakegate_catalog_search_position{{{NS}}})",
                            "positions",
                        )
                    ],
                ),
                Panel(
                    "A batch is searchable after",
                    "99% of batches of changes.",
                    SECONDS,
                    [(quantile(0.99, "lakegate_catalog_search_apply_seconds", "job"), "{{job}}")],
                ),
                Panel(
                    "Datasets left out of search",
                    "Their state can't be read. Zero is good.",
                    NUMBER,
                    [(f"sum(lakegate_catalog_search_unreadable_total{{{NS}}})", "datasets")],
                    limit=1,
                ),
            ],
        ),
        Row(
            "Metadata",
            [
                Panel(
                    "Metadata cached",
                    "What the cached metadata of tables weighs.",
                    BYTES,
                    [(f"lakegate_catalog_metadata_cache_bytes{{{NS}}}", "{{pod}}")],
                ),
                Panel(
                    "Found in the cache",
                    "Share of the reads of a table's metadata that needed no object store.",
                    SHARE,
                    [
                        (
                            f'sum(rate(lakegate_cache_lookups_total{{{NS}, cache="table_metadata", outcome="hit"}}[$__rate_interval])) / sum(rate(lakegate_cache_lookups_total{{{NS}, cache="table_metadata"}}[$__rate_interval]))',
                            "hits",
                        )
                    ],
                ),
                Panel(
                    "Metadata files deleted",
                    "Once no table's log named them, within an hour.",
                    NUMBER,
                    [(f"sum(increase(lakegate_catalog_metadata_files_deleted_total{{{NS}}}[1h]))", "files")],
                ),
                Panel(
                    "Document store: events brought over",
                    "To the event log, a second. Zero with PostgreSQL as the store.",
                    PER_SECOND,
                    [(rate("lakegate_catalog_relayed_events_total", "job"), "{{job}}")],
                ),
                Panel(
                    "Document store: oldest event that waits",
                    "As a sweep found it. Zero with PostgreSQL as the store.",
                    SECONDS,
                    [(f"max(lakegate_catalog_relay_oldest_seconds{{{NS}}})", "oldest")],
                    limit=60,
                ),
            ],
        ),
    ],
)
