"""The rows of PostgreSQL that groups on Kafka share: where they begin, their dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from lakegate_chassis.eventlog import letters
from lakegate_chassis.eventlog.port import DeadLetter, Event
from lakegate_chassis.postgres import connection

# A group that used to consume from PostgreSQL goes on where it was; its row there would hold retention back.
ENTER = """
    WITH before AS (
        DELETE FROM eventlog.offsets WHERE group_name = $1 RETURNING position
    )
    INSERT INTO eventlog.kafka_groups AS g (group_name, topics, start)
    VALUES ($1, $2, coalesce((SELECT position FROM before), $3))
    ON CONFLICT (group_name) DO UPDATE SET topics = excluded.topics
"""


@dataclass(frozen=True, slots=True)
class Control:
    """Partitions begin after `start` when nothing is committed or when what is committed is of an older epoch."""

    group: str
    topics: tuple[str, ...]
    start: int
    epoch: int
    dead_letters: int


class Groups:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def enter(self, group: str, topics: Sequence[str], start: int) -> None:
        async with connection(self._pool) as acquired:
            await acquired.execute(ENTER, group, list(topics), start)

    async def control(self, group: str) -> Control:
        """Raises ConnectionError when the group was forgotten: whoever still runs it has to enter it again."""
        found = await self.all(group)
        if not found:
            raise ConnectionError(f"group {group} was forgotten")
        return found[0]

    async def all(self, group: str | None = None) -> list[Control]:
        async with connection(self._pool) as acquired:
            rows = await acquired.fetch(
                """
                SELECT g.*, (SELECT count(*) FROM eventlog.dead_letters d WHERE d.group_name = g.group_name) AS dead
                FROM eventlog.kafka_groups g WHERE $1::text IS NULL OR group_name = $1 ORDER BY group_name
                """,
                group,
            )
        return [
            Control(row["group_name"], tuple(row["topics"]), row["start"], row["epoch"], row["dead"]) for row in rows
        ]

    async def rewind(self, group: str, position: int) -> bool:
        """False for an unknown group."""
        # an epoch is a time, so that it is later than any that a forgotten group of the same name has followed
        async with connection(self._pool) as acquired:
            moved = await acquired.fetchval(
                """
                UPDATE eventlog.kafka_groups SET start = $2, updated_at = now(),
                    epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
                WHERE group_name = $1 RETURNING true
                """,
                group,
                position,
            )
        return bool(moved)

    async def forget(self, group: str) -> bool:
        """False for an unknown group."""
        async with connection(self._pool) as acquired:
            forgotten = await acquired.fetchval(
                "DELETE FROM eventlog.kafka_groups WHERE group_name = $1 RETURNING true", group
            )
        return bool(forgotten)

    async def bury(self, group: str, event: Event, reason: str, attempts: int) -> None:
        async with connection(self._pool) as acquired:
            await letters.bury(acquired, group, event, reason, attempts)

    async def requested_replays(self, group: str, limit: int) -> list[DeadLetter]:
        async with connection(self._pool) as acquired:
            return await letters.requested(acquired, group, limit)

    async def settle_replay(self, letter: DeadLetter, failure: str | None) -> None:
        async with connection(self._pool) as acquired:
            await letters.settle(acquired, letter, failure)
