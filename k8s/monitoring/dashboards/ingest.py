"""Loads: how many, how they end, where their time goes, and what they hold."""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    BYTES_PER_SECOND,
    NS,
    NUMBER,
    PER_SECOND,
    SECONDS,
    SHARE,
    SWITCH,
    Dashboard,
    Panel,
    Row,
    quantile,
    rate,
)  # fmt: skip

INGEST = Dashboard(
    "ingest",
    "Lakegate ingest",
    "Loads by outcome and phase, the queue, the spool, commits, and what retention and recovery did.",
    [
        Row(
            "Loads",
            [
                Panel(
                    "Loads ended",
                    "By outcome, a second.",
                    PER_SECOND,
                    [(rate("lakegate_ingest_loads_total", "outcome"), "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Loads that failed",
                    "By problem; each has a page in docs/problems.",
                    PER_SECOND,
                    [(rate("lakegate_ingest_failures_total", "problem"), "{{problem}}")],
                    stacked=True,
                ),
                Panel(
                    "Rows",
                    "Rows of completed loads a second: written, and set aside (quarantined).",
                    PER_SECOND,
                    [(rate("lakegate_ingest_rows_total", "kind"), "{{kind}}")],
                ),
                Panel(
                    "Bytes received",
                    "Bodies as they were sent.",
                    BYTES_PER_SECOND,
                    [(f"sum(rate(lakegate_ingest_received_bytes_total{{{NS}}}[$__rate_interval]))", "bytes")],
                ),
                Panel(
                    "99% of loads are readable within",
                    "From the last byte until the rows are readable. The objective is 60 s.",
                    SECONDS,
                    [
                        (
                            f'histogram_quantile(0.99, sum by (le) (rate(lakegate_ingest_phase_duration_seconds_bucket{{{NS}, phase="readable"}}[$__rate_interval])))',
                            "readable",
                        )
                    ],
                    limit=60,
                ),
                Panel(
                    "Where the time goes",
                    "Mean time of a load in each phase.",
                    SECONDS,
                    [
                        (
                            f"{rate('lakegate_ingest_phase_duration_seconds_sum', 'phase')} / {rate('lakegate_ingest_phase_duration_seconds_count', 'phase')}",
                            "{{phase}}",
                        )
                    ],
                ),
                Panel(
                    "95% of phases take less than",
                    "By phase: receive, queue, read, commit, and readable for the whole after receive.",
                    SECONDS,
                    [(quantile(0.95, "lakegate_ingest_phase_duration_seconds", "phase"), "{{phase}}")],
                ),
            ],
        ),
        Row(
            "Under way",
            [
                Panel(
                    "Loads under way",
                    "Bodies that arrive, loads that wait for a worker, loads that are read or committed.",
                    NUMBER,
                    [
                        (f"sum(lakegate_ingest_receiving_loads{{{NS}}})", "receiving"),
                        (f"sum(lakegate_ingest_queued_loads{{{NS}}})", "queued"),
                        (f"sum(lakegate_ingest_running_loads{{{NS}}})", "running"),
                    ],
                    stacked=True,
                ),
                Panel(
                    "Spool in use",
                    "Share of its quota, by process. Full: loads are refused with 507.",
                    SHARE,
                    [(f"lakegate_ingest_spool_bytes{{{NS}}} / lakegate_ingest_spool_max_bytes{{{NS}}}", "{{pod}}")],
                    limit=0.85,
                ),
                Panel(
                    "Spool",
                    "Bytes of received files that are not loaded yet.",
                    BYTES,
                    [(f"lakegate_ingest_spool_bytes{{{NS}}}", "{{pod}}")],
                ),
                Panel(
                    "Streams that are open",
                    "Progress (SSE), and downloads of rows.",
                    NUMBER,
                    [
                        (f"sum(lakegate_ingest_progress_streams{{{NS}}})", "progress"),
                        (f"sum(lakegate_ingest_row_streams{{{NS}}})", "rows"),
                    ],
                ),
            ],
        ),
        Row(
            "Commits",
            [
                Panel(
                    "Commits tried again",
                    "By reason: lost races are usual with many loads into one table; catalog_unavailable waits for the catalog.",
                    PER_SECOND,
                    [
                        (
                            f"{rate('lakegate_ingest_commit_retries_total', 'reason')} or 0 * sum(lakegate_ingest_catalog_up{{{NS}}})",
                            "{{reason}}",
                        )
                    ],
                ),
                Panel(
                    "Catalog is reached",
                    "As the last sweep saw it, by process.",
                    SWITCH,
                    [(f"lakegate_ingest_catalog_up{{{NS}}}", "{{pod}}")],
                ),
                Panel(
                    "Calls to other services",
                    "By service and outcome.",
                    PER_SECOND,
                    [
                        (
                            rate("lakegate_upstream_calls_total", "upstream, outcome", f'{NS}, job="ingest"'),
                            "{{upstream}} {{outcome}}",
                        )
                    ],
                ),
            ],
        ),
        Row(
            "Streams",
            [
                Panel(
                    "Streams: age of the oldest record without its table",
                    "By stream. The objective is 60 s.",
                    SECONDS,
                    [(f"max by (stream) (lakegate_ingest_stream_freshness_seconds{{{NS}}})", "{{stream}}")],
                    limit=60,
                ),
                Panel(
                    "Streams: records behind",
                    "Records that are not in their table yet, by stream.",
                    NUMBER,
                    [(f"sum by (stream) (lakegate_ingest_stream_lag_records{{{NS}}})", "{{stream}}")],
                ),
                Panel(
                    "Streams: rows",
                    "Accepted (on the brokers), committed (in a table), rejected (set aside), a second.",
                    PER_SECOND,
                    [(rate("lakegate_ingest_stream_rows_total", "kind"), "{{kind}}")],
                ),
                Panel(
                    "Streams: commits",
                    "By outcome; superseded means that another worker had been there.",
                    PER_SECOND,
                    [(rate("lakegate_ingest_stream_commits_total", "outcome"), "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Streams: from the broker to the table",
                    "Half and 99% of commits, of the oldest record of each.",
                    SECONDS,
                    [
                        (quantile(0.5, "lakegate_ingest_stream_delay_seconds", "job"), "50%"),
                        (quantile(0.99, "lakegate_ingest_stream_delay_seconds", "job"), "99%"),
                    ],
                ),
                Panel(
                    "Streams: records lost to retention",
                    "Records that Kafka removed before they were committed. Zero is good; anything else is loss.",
                    NUMBER,
                    [(f"sum(increase(lakegate_ingest_stream_records_expired_total{{{NS}}}[1h]))", "records")],
                    limit=1,
                ),
            ],
        ),
        Row(
            "Keeping house",
            [
                Panel(
                    "Loads taken over",
                    "From dead processes, within an hour, by what was done. Zero is usual.",
                    NUMBER,
                    [
                        (
                            f"sum by (action) (increase(lakegate_ingest_recovered_total{{{NS}}}[1h])) or 0 * sum(lakegate_ingest_catalog_up{{{NS}}})",
                            "{{action}}",
                        )
                    ],
                ),
                Panel(
                    "Files of failed loads deleted",
                    "By the sweep, within an hour.",
                    NUMBER,
                    [(f"sum(increase(lakegate_ingest_orphan_files_deleted_total{{{NS}}}[1h]))", "files")],
                ),
                Panel(
                    "Deleted by retention",
                    "By kind, within an hour.",
                    NUMBER,
                    [(f"sum by (kind) (increase(lakegate_ingest_pruned_total{{{NS}}}[1h]))", "{{kind}}")],
                ),
                Panel(
                    "Readings begun during the upload",
                    "Used or dropped: a large body is read while it arrives where that pays. Zero with small bodies.",
                    PER_SECOND,
                    [
                        (
                            f"{rate('lakegate_ingest_early_reads_total', 'outcome')} or 0 * sum(lakegate_ingest_catalog_up{{{NS}}})",
                            "{{outcome}}",
                        )
                    ],
                ),
            ],
        ),
    ],
)
