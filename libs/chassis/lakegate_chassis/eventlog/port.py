"""What any event log gives: atomic publish, reading in commit order, consumer groups, dead letters, replay."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from lakegate_chassis import context
from lakegate_contracts.events import EventData

# Of a dead letter that is nobody's: a record that was no event of ours.
NO_TENANT = ""
STRANGER = "unknown"  # the type of what is no event of ours


@dataclass(frozen=True, slots=True)
class Event:
    """`position` is given by the log once the event is committed: later commits have higher positions.

    Events of one `key` reach a group in that order. `data` is the JSON document of the type's model.
    """

    id: UUID
    topic: str
    type: str
    key: str
    source: str
    tenant: str
    time: datetime
    data: dict[str, Any]
    traceparent: str | None = None
    position: int | None = None

    @property
    def at(self) -> int:
        """The position of an event that was read from a log."""
        if self.position is None:
            raise ValueError(f"event {self.id} was not read from a log")
        return self.position


def make_event(data: EventData, *, key: str, tenant: str, source: str, event_id: UUID | None = None) -> Event:
    """An event that happens now, in the trace of the current request. The same id twice is published once."""
    info = context.current()
    return Event(
        id=event_id or uuid4(),
        topic=data.topic,
        type=data.event_type,
        key=key,
        source=source,
        tenant=tenant,
        time=datetime.now(UTC),
        data=data.model_dump(mode="json"),
        traceparent=None if info is context.NO_REQUEST else info.traceparent,
    )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a group gave up on, why, and after how many attempts."""

    id: int
    group: str
    event: Event
    reason: str
    attempts: int
    failed_at: datetime
    replay_requested_at: datetime | None


@dataclass(frozen=True, slots=True)
class GroupState:
    """Where a group stands: `lag` counts positions up to the head, `attempts` failures at its next event."""

    group: str
    topics: tuple[str, ...]
    position: int
    lag: int
    attempts: int
    dead_letters: int
    updated_at: datetime | None  # None on Kafka, which does not tell when a group committed


@dataclass(frozen=True, slots=True)
class Batch:
    """What a member gets next. `through`: all events of its topics up to there are in it or before it.

    `attempts` failures and `crashes` of the process are known for its first event; events up to
    `delivered_before` were handed out once already.
    """

    events: list[Event]
    through: int
    head: int
    attempts: int = 0
    crashes: int = 0
    delivered_before: int = 0


class Rewound(Exception):
    """Somebody moved the group's position: what was read is no longer what comes next."""


class BeyondHead(ValueError):
    """Nothing stands there yet: a group that went on after it would pass over everything that comes until then."""

    def __init__(self, position: int, head: int) -> None:
        super().__init__(f"position {position} lies beyond {head}, the log's last one")
        self.head = head


class GroupInUse(Exception):
    """The group has a member, whose place in the log would be lost."""


class Membership(Protocol):
    """An active member of a group. All its writes fail once its lease is gone."""

    @property
    def active(self) -> bool:
        """False once the lease is known to be lost: another member may be handling the same events."""
        ...

    async def next(self, limit: int, wait_seconds: float) -> Batch:
        """The next events, at most `limit`; empty when none came within the time or something else did."""
        ...

    def handled(self, event: Event) -> None:
        """`event` of the last batch has had its effect; whoever takes over goes on after it, if that can be told.

        Raises Rewound when the rest of the batch is somebody else's now.
        """
        ...

    async def commit(self, position: int) -> None:
        """Everything of the last batch up to `position` has had its effect. Raises Rewound."""
        ...

    async def record_failure(self, event: Event, attempts: int) -> None:
        """Everything before `event` has had its effect, and `event` failed that often. Raises Rewound."""
        ...

    async def bury(self, event: Event, reason: str, attempts: int) -> None:
        """Put `event` among the dead letters and commit its position, both or neither. Raises Rewound."""
        ...

    async def requested_replays(self, limit: int) -> list[DeadLetter]:
        """Dead letters of the group that somebody asked to try again, oldest first."""
        ...

    async def settle_replay(self, letter: DeadLetter, failure: str | None) -> None:
        """None: the letter is gone. Else it stays, with the new reason, until it is asked for again."""
        ...


class EventLog(Protocol):
    async def publish(self, transaction: Any, *events: Event) -> None:
        """Write events in the caller's transaction (an asyncpg connection): both are committed or neither."""
        ...

    def read(
        self,
        topics: Sequence[str],
        after: int,
        limit: int = 500,
        *,
        follow: bool = True,
        pause_seconds: float = 0.0,
    ) -> AsyncGenerator[list[Event], None]:
        """Every event after a position, in batches, outside of groups.

        At the head it looks again no sooner than after `pause_seconds`, however often others publish.

        It waits for more for ever; with `follow=False` it ends at the head. The next batch is read when it is
        asked for, so a slow reader holds one batch.
        """
        ...

    async def head(self) -> int:
        """The last position; everything committed before the call is at or below it."""
        ...

    async def position_before(self, time: datetime) -> int:
        """The position after which every event that happened at `time` or later stands."""
        ...

    def join(
        self, group: str, topics: Sequence[str], *, from_head: bool = False
    ) -> AbstractAsyncContextManager[Membership]:
        """Wait to become an active member. A new group begins at the first event, or at the head.

        No topics means every topic.
        """
        ...

    async def rewind(self, group: str, position: int) -> None:
        """Let the group go on after `position`, backwards or forwards.

        Raises KeyError for an unknown group, BeyondHead for a position that the log has not reached.
        """
        ...

    async def groups(self) -> list[GroupState]: ...

    async def forget_group(self, group: str) -> None:
        """Drop a group that nobody runs any more: it would hold retention back for ever.

        Its dead letters stay. Whoever runs it again begins where a new group does; on Kafka, which keeps its offsets
        for a week, where it was. Raises KeyError for an unknown group, GroupInUse for one with a member.
        """
        ...

    async def dead_letters(
        self, group: str | None = None, *, limit: int = 100, before_id: int | None = None
    ) -> list[DeadLetter]:
        """Newest first; `before_id` is the id of the last one of the page before."""
        ...

    async def request_replay(self, group: str, letter_ids: Sequence[int] | None = None) -> int:
        """Ask the group to try these dead letters again, or all of its own; returns how many."""
        ...

    async def prune(self, keep: timedelta, limit: int) -> int:
        """Delete at most `limit` events that are older than `keep` and behind every group; returns how many."""
        ...
