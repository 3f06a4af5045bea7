"""The event log: what is published, who is behind, what failed, and the relay to Kafka."""

from __future__ import annotations

from dashboards.panels import NS, NUMBER, PER_SECOND, SECONDS, SWITCH, Dashboard, Panel, Row, quantile, rate

# Of groups that have members: a failure that never was is a zero, not a gap.
NONE = f"0 * sum by (group) (lakegate_events_group_active{{{NS}}})"

EVENT_LOG = Dashboard(
    "event_log",
    "Lakegate event log and Kafka",
    "Events published and handled, lag, failures and dead letters of each group, and the relay from the outbox to Kafka.",
    [
        Row(
            "Flow",
            [
                Panel(
                    "Published",
                    "Events written a second, by topic.",
                    PER_SECOND,
                    [(rate("lakegate_events_published_total", "topic"), "{{topic}}")],
                    stacked=True,
                ),
                Panel(
                    "Handled",
                    "Events that had their effect, by group and type.",
                    PER_SECOND,
                    [(rate("lakegate_events_handled_total", "group, type"), "{{group}} {{type}}")],
                    stacked=True,
                ),
                Panel(
                    "An attempt takes",
                    "99% of attempts, by group.",
                    SECONDS,
                    [(quantile(0.99, "lakegate_events_handler_duration_seconds", "group"), "{{group}}")],
                    exemplars=True,
                ),
            ],
        ),
        Row(
            "Lag",
            [
                Panel(
                    "Positions behind, by group",
                    "Of active members: who left its group keeps its last value.",
                    NUMBER,
                    [
                        (
                            f"max by (group) (lakegate_events_lag{{{NS}}} and lakegate_events_group_active{{{NS}}} == 1)",
                            "{{group}}",
                        )
                    ],
                    limit=10000,
                ),
                Panel(
                    "Age of the event in hand",
                    "The objective is 60 s. Zero: nothing in hand.",
                    SECONDS,
                    [(f"max by (group) (lakegate_events_lag_seconds{{{NS}}})", "{{group}}")],
                    limit=60,
                ),
                Panel(
                    "Active members",
                    "Processes that handle events, by group. Zero: events wait.",
                    NUMBER,
                    [(f"sum by (group) (lakegate_events_group_active{{{NS}}})", "{{group}}")],
                ),
                Panel(
                    "Whose turn it is",
                    "With two colours the consumers of one run: processes that want theirs to, and those that run.",
                    NUMBER,
                    [
                        (f"sum by (job) (lakegate_events_consumers_wanted{{{NS}}})", "wanted {{job}}"),
                        (f"sum by (consumer) (lakegate_events_consumers_running{{{NS}}})", "running {{consumer}}"),
                    ],
                ),
                Panel(
                    "Consumers that run",
                    "By process.",
                    SWITCH,
                    [(f"max by (consumer, pod) (lakegate_events_consumers_running{{{NS}}})", "{{consumer}} {{pod}}")],
                ),
                Panel(
                    "Decision on the turn",
                    "The generation that each process has seen: they are to be the same.",
                    NUMBER,
                    [(f"max by (job, pod) (lakegate_events_consumers_generation{{{NS}}})", "{{job}} {{pod}}")],
                ),
            ],
        ),
        Row(
            "Failures",
            [
                Panel(
                    "Attempts that failed",
                    "They are tried again; what is away is waited out. Zero is good.",
                    PER_SECOND,
                    [(f"{rate('lakegate_events_failed_total', 'group')} or {NONE}", "{{group}}")],
                ),
                Panel(
                    "Dead letters",
                    "Events given up on within an hour: `lakegate events dlq`. Zero is good.",
                    NUMBER,
                    [
                        (
                            f"sum by (group) (increase(lakegate_events_dead_lettered_total{{{NS}}}[1h])) or {NONE}",
                            "{{group}}",
                        )
                    ],
                    limit=1,
                ),
                Panel(
                    "Handed out again",
                    "Within an hour, after their member went.",
                    NUMBER,
                    [(f"sum by (group) (increase(lakegate_events_redelivered_total{{{NS}}}[1h]))", "{{group}}")],
                ),
            ],
        ),
        Row(
            "Kafka",
            [
                Panel(
                    "Relayed to Kafka",
                    "Events of the outbox that the brokers have acknowledged, a second. Zero without Kafka.",
                    PER_SECOND,
                    [(rate("lakegate_events_relayed_total", "job"), "{{job}}")],
                ),
                Panel(
                    "Relay behind",
                    "Positions between the relay and the head of the outbox. Zero without Kafka.",
                    NUMBER,
                    [(f"max(lakegate_events_relay_lag{{{NS}}})", "positions")],
                    limit=10000,
                ),
                Panel(
                    "Events deleted by retention",
                    "Of the outbox, within an hour.",
                    NUMBER,
                    [(f"sum(increase(lakegate_events_pruned_total{{{NS}}}[1h]))", "events")],
                ),
            ],
        ),
    ],
)
