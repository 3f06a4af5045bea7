"""The event log with Kafka: written and read by position in PostgreSQL, consumed by groups from Kafka."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from lakegate_chassis.eventlog import metrics
from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.eventlog.kafka.groups import Groups
from lakegate_chassis.eventlog.kafka.membership import KafkaMembership
from lakegate_chassis.eventlog.kafka.relay import GROUP as RELAY
from lakegate_chassis.eventlog.kafka.relay import Relay
from lakegate_chassis.eventlog.kafka.states import group_states, has_members
from lakegate_chassis.eventlog.kafka.topics import Topics
from lakegate_chassis.eventlog.port import DeadLetter, Event, GroupInUse, GroupState, Membership
from lakegate_chassis.eventlog.postgres import PostgresEventLog
from lakegate_chassis.settings import KafkaSettings


class KafkaEventLog:
    """Publishing, reading everything and positions are the outbox's; groups are Kafka's, many members each.

    Run `relay.run` under Background in each process that has one of these.
    """

    def __init__(self, pool: asyncpg.Pool, settings: KafkaSettings) -> None:
        self._outbox = PostgresEventLog(pool)
        self._connections = Connections(settings)
        self._groups = Groups(pool)
        self._topics = Topics(self._connections)
        self.relay = Relay(self._outbox, self._connections)

    async def publish(self, transaction: Any, *events: Event) -> None:
        await self._outbox.publish(transaction, *events)

    def read(
        self,
        topics: Sequence[str],
        after: int,
        limit: int = 500,
        *,
        follow: bool = True,
        pause_seconds: float = 0.0,
    ) -> AsyncGenerator[list[Event], None]:
        return self._outbox.read(topics, after, limit, follow=follow, pause_seconds=pause_seconds)

    async def head(self) -> int:
        return await self._outbox.head()

    async def position_before(self, time: datetime) -> int:
        return await self._outbox.position_before(time)

    @asynccontextmanager
    async def join(self, group: str, topics: Sequence[str], *, from_head: bool = False) -> AsyncIterator[Membership]:
        start = await self._outbox.head() if from_head else 0
        await self._topics.ensure(topics)
        await self._groups.enter(group, topics, start)
        member = KafkaMembership(self._connections, self._groups, self._topics, group, list(topics))
        try:
            async with member.watched():
                await member.enter()
                metrics.ACTIVE.labels(group).set(1)
                yield member
        except ConnectionError:
            self._topics.forget(topics)
            raise
        finally:
            metrics.ACTIVE.labels(group).set(0)
            await member.leave()

    async def rewind(self, group: str, position: int) -> None:
        await self._outbox.check_reached(position)
        if not await self._groups.rewind(group, position):
            raise KeyError(group)

    async def groups(self) -> list[GroupState]:
        """Those on Kafka, and those that nothing has run since PostgreSQL's days: they hold the outbox back."""
        controls = await self._groups.all()
        of_outbox = {state.group: state for state in await self._outbox.groups()}
        relay = of_outbox.pop(RELAY, None)
        relayed, unsent = (relay.position, relay.lag) if relay is not None else (0, await self._outbox.head())
        states = await group_states(self._connections, controls, relayed, unsent)
        known = {control.group for control in controls}
        return states + [state for group, state in of_outbox.items() if group not in known]

    async def forget_group(self, group: str) -> None:
        """Its offsets in Kafka run out by themselves, a week after its last member left."""
        if await has_members(self._connections, group):
            raise GroupInUse(group)
        if await self._groups.forget(group):
            return
        if group == RELAY:
            raise KeyError(group)  # its progress is the log's own: without it every event would be sent again
        await self._outbox.forget_group(group)

    async def dead_letters(
        self, group: str | None = None, *, limit: int = 100, before_id: int | None = None
    ) -> list[DeadLetter]:
        return await self._outbox.dead_letters(group, limit=limit, before_id=before_id)

    async def request_replay(self, group: str, letter_ids: Sequence[int] | None = None) -> int:
        return await self._outbox.request_replay(group, letter_ids)

    async def prune(self, keep: timedelta, limit: int) -> int:
        """Of the outbox; Kafka's topics have retentions of their own."""
        return await self._outbox.prune(keep, limit)
