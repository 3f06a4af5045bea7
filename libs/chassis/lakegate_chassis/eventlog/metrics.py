"""What to watch on the event log; `group` is a consumer group, `type` an event type of the contracts, or `other`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

PUBLISHED = Counter("lakegate_events_published_total", "Events written, whether committed or not", ["topic"])
LAG = Gauge("lakegate_events_lag", "Positions between the group and the head of the log", ["group"])
LAG_SECONDS = Gauge(
    "lakegate_events_lag_seconds", "Age of the event that this process has in hand for the group; 0: none", ["group"]
)
ACTIVE = Gauge("lakegate_events_group_active", "1 while this process is the group's active member", ["group"])
HANDLED = Counter("lakegate_events_handled_total", "Events that had their effect", ["group", "type"])
FAILED = Counter("lakegate_events_failed_total", "Attempts that failed", ["group", "type"])
DEAD_LETTERED = Counter("lakegate_events_dead_lettered_total", "Events given up on", ["group", "type"])
REDELIVERED = Counter("lakegate_events_redelivered_total", "Events handed out again after their member went", ["group"])
DURATION = Histogram(
    "lakegate_events_handler_duration_seconds",
    "Time of one attempt; buckets carry trace ids as exemplars (OpenMetrics)",
    ["group"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
PRUNED = Counter("lakegate_events_pruned_total", "Events deleted by retention")
RELAYED = Counter("lakegate_events_relayed_total", "Events of the outbox that Kafka has acknowledged")
RELAY_LAG = Gauge("lakegate_events_relay_lag", "Positions between the relay and the head of the outbox, in its process")
CONSUMERS_WANTED = Gauge("lakegate_events_consumers_wanted", "1 while this process's consumers are to run")
CONSUMERS_RUNNING = Gauge("lakegate_events_consumers_running", "1 while the consumer runs", ["consumer"])
CONSUMERS_GENERATION = Gauge(
    "lakegate_events_consumers_generation", "Of the latest decision on which colour's consumers run"
)
