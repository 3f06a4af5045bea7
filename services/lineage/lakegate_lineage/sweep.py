"""`python -m lakegate_lineage.sweep`: retention of the event log and of lineage's own events, once."""

from __future__ import annotations

from lakegate_chassis.eventlog.postgres import PostgresEventLog
from lakegate_chassis.once import run_once, sweep_once
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_chassis.settings import load
from lakegate_lineage.resources import event_retention, lineage_retention
from lakegate_lineage.settings import LineageSettings


async def sweep(settings: LineageSettings) -> bool:
    pool = await open_pool(settings.postgres, "lineage")
    # what is pruned is the outbox, with Kafka too
    event_log = PostgresEventLog(pool)
    try:
        return await sweep_once(
            {
                "event-retention": event_retention(settings, event_log).prune,
                "lineage-retention": lineage_retention(settings, pool).prune,
            },
            settings.consumers,
        )
    finally:
        await close_pool(pool)


def main() -> None:
    settings = load(LineageSettings)
    run_once("lineage", settings, lambda: sweep(settings))


if __name__ == "__main__":
    main()
