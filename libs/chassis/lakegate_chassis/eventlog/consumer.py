"""A consumer group's loop: handle in order, commit after the effect, retry, give up on what can't be handled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
from opentelemetry.trace import SpanKind

from lakegate_chassis import context, tracing
from lakegate_chassis.eventlog import metrics
from lakegate_chassis.eventlog.port import STRANGER, Batch, Event, EventLog, Membership, Rewound
from lakegate_chassis.logs import log
from lakegate_chassis.problems import Unavailable
from lakegate_contracts.events import EVENTS

Handler = Callable[[Event], Awaitable[None]]

# These say that something we need is away, not that the event is bad: they are retried until it is back.
TRANSIENT = (
    Unavailable,
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
_TYPES = frozenset(event.event_type for event in EVENTS)
_REASON_CHARACTERS = 2_000
_REPLAYS_AT_ONCE = 20


class PermanentFailure(Exception):
    """Raised by a handler that knows that trying again is in vain: the event is dead-lettered at once."""


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` failures and the event is given up on; pauses double from the first to the longest."""

    attempts: int = 8
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 30.0
    transient: tuple[type[Exception], ...] = TRANSIENT

    def pause_seconds(self, failures: int) -> float:
        pause = min(self.first_pause_seconds * 2.0 ** min(failures - 1, 30), self.longest_pause_seconds)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


class Consumer:
    """Run it under Background, in as many processes as you like: the log shares the events out among them.

    The handler gets each event at least once, the events of one key in the order of positions. Its effect must be
    idempotent: record the event's id in the same transaction. Cancelling the run commits what is done; the event in
    hand is redelivered. A dead-lettered event no longer holds back the later ones of its key.
    """

    def __init__(
        self,
        event_log: EventLog,
        *,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        retry: RetryPolicy | None = None,
        batch_size: int = 100,
        poll_seconds: float = 5.0,
        from_head: bool = False,
    ) -> None:
        self._log = event_log
        self._group = group
        self._topics = list(topics)
        self._handler = handler
        self._retry = retry or RetryPolicy()
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._from_head = from_head
        # when the event happened that is in hand, or is the next one to be
        self._waiting_since: datetime | None = None
        metrics.LAG_SECONDS.labels(group).set_function(self._lag_seconds)

    async def run(self) -> None:
        """Until cancelled. Raises when the lease or the log is lost; start it again then."""
        try:
            await self._consume()
        finally:
            self._waiting_since = None  # another process may have it by now, and tells

    async def _consume(self) -> None:
        async with self._log.join(self._group, self._topics, from_head=self._from_head) as member:
            log.info("consumer_active", group=self._group, topics=self._topics)
            limit, careful_until = 1, 0
            while True:
                await self._replay_requested(member)
                batch = await member.next(limit, self._poll_seconds)
                self._observe(batch)
                with suppress(Rewound):
                    await self._handle_batch(member, batch)
                # After a crash, what was handed out before it goes one at a time: the event that ends the
                # process is then the first one, and its crashes are counted.
                if batch.crashes:
                    careful_until = max(careful_until, batch.delivered_before)
                limit = 1 if batch.through < careful_until else self._batch_size

    async def _handle_batch(self, member: Membership, batch: Batch) -> None:
        events = batch.events
        if not events:
            return
        if batch.crashes >= self._retry.attempts:
            await self._bury(
                member, events[0], f"the process ended {batch.crashes} times while it handled this", batch.crashes
            )
            return
        done = 0
        try:
            for number, event in enumerate(events):
                if not member.active:
                    raise ConnectionError(f"the lease of group {self._group} is lost")
                self._waiting_since = event.time
                await self._handle(member, event, batch.attempts if number == 0 else 0)
                done = event.at
                member.handled(event)
        except asyncio.CancelledError:
            if done:
                # Whatever becomes of it, the cancellation goes on: what is not committed is redelivered.
                with suppress(Rewound, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await member.commit(done)
            raise
        await member.commit(done)
        self._waiting_since = None
        metrics.LAG.labels(self._group).set(max(batch.head - done, 0))

    async def _handle(self, member: Membership, event: Event, failures: int) -> None:
        while True:
            failure = await self._attempt(event)
            if failure is None:
                return
            failures += 1
            lasting = not isinstance(failure, self._retry.transient)
            if isinstance(failure, PermanentFailure) or (lasting and failures >= self._retry.attempts):
                await self._bury(member, event, _reason(failure), failures)
                return
            pause = self._retry.pause_seconds(failures)
            log.warning(
                "event_failed",
                group=self._group,
                event_id=str(event.id),
                type=event.type,
                attempts=failures,
                retry_in_seconds=round(pause, 3),
                error=_reason(failure),
            )
            await member.record_failure(event, failures if lasting else 0)
            await asyncio.sleep(pause)

    async def _attempt(self, event: Event) -> Exception | None:
        """One call of the handler, in a span that continues the trace in which the event was published."""
        info, parent_id = tracing.start(str(event.id), event.traceparent)
        attributes = {
            "messaging.operation.type": "process",
            "messaging.destination.name": event.topic,
            "messaging.consumer.group.name": self._group,
            "messaging.message.id": str(event.id),
        }
        began = time.perf_counter()
        try:
            with tracing.remote_span(info, parent_id, f"process {event.type}", SpanKind.CONSUMER, attributes):
                await self._handler(event)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is a failed attempt
            metrics.FAILED.labels(self._group, _type_label(event)).inc()
            return error
        finally:
            context.enter(context.NO_REQUEST)
            exemplar = {"trace_id": info.trace_id} if info.sampled else None
            metrics.DURATION.labels(self._group).observe(time.perf_counter() - began, exemplar)
        metrics.HANDLED.labels(self._group, _type_label(event)).inc()
        return None

    async def _bury(self, member: Membership, event: Event, reason: str, attempts: int) -> None:
        await member.bury(event, reason, attempts)
        metrics.DEAD_LETTERED.labels(self._group, _type_label(event)).inc()
        log.error(
            "event_dead_lettered",
            group=self._group,
            event_id=str(event.id),
            type=event.type,
            position=event.position,
            attempts=attempts,
            reason=reason,
        )

    async def _replay_requested(self, member: Membership) -> None:
        while letters := await member.requested_replays(_REPLAYS_AT_ONCE):
            for letter in letters:
                if letter.event.type == STRANGER:  # a handler would pass over it, which is no effect
                    failed: str | None = letter.reason
                else:
                    failure = await self._attempt(letter.event)
                    failed = None if failure is None else _reason(failure)
                await member.settle_replay(letter, failed)
                log.info(
                    "dead_letter_replayed", group=self._group, event_id=str(letter.event.id), handled=failed is None
                )

    def _observe(self, batch: Batch) -> None:
        metrics.LAG.labels(self._group).set(max(batch.head - batch.through, 0) + len(batch.events))
        self._waiting_since = batch.events[0].time if batch.events else None
        if not batch.events:
            return
        redelivered = sum(event.at <= batch.delivered_before for event in batch.events)
        metrics.REDELIVERED.labels(self._group).inc(redelivered)

    def _lag_seconds(self) -> float:
        """Asked when metrics are read, so that it grows while a handler waits for what it needs."""
        if self._waiting_since is None:
            return 0.0
        return max((datetime.now(UTC) - self._waiting_since).total_seconds(), 0.0)


def _type_label(event: Event) -> str:
    """Anybody who may write to a topic could make up types, and each would be a series."""
    return event.type if event.type in _TYPES else "other"


def _reason(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}"[:_REASON_CHARACTERS]
