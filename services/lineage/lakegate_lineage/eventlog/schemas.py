"""The event log on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lakegate_chassis.eventlog import DeadLetter, Event, GroupState

MAX_IDS = 1000


class EventGroup(BaseModel):
    """Where a consumer group stands: everything up to `position` has had its effect."""

    model_config = ConfigDict(from_attributes=True)

    group: str
    topics: list[str]
    position: int
    lag: int = Field(description="events between the group and the head of the log")
    attempts: int = Field(description="failures at its next event")
    dead_letters: int = Field(description="of all tenants; /v1/events/dead-letters shows those of yours")
    updated_at: datetime | None


class EventGroups(BaseModel):
    items: list[EventGroup]
    head: int = Field(description="the last position of the log")

    @classmethod
    def of(cls, states: list[GroupState], head: int) -> Self:
        return cls(items=[EventGroup.model_validate(state) for state in states], head=head)


class LoggedEvent(BaseModel):
    """An event as it was published; `data` has the shape of its type."""

    model_config = ConfigDict(from_attributes=True)

    position: int
    id: UUID
    topic: str
    type: str
    key: str
    source: str
    time: datetime
    traceparent: str | None
    data: dict[str, Any]


class LoggedEvents(BaseModel):
    """`after` continues after the last event that was looked at: give it back to read on."""

    items: list[LoggedEvent]
    after: int

    @classmethod
    def of(cls, events: list[Event], after: int) -> Self:
        return cls(items=[LoggedEvent.model_validate(event) for event in events], after=after)


class Replay(BaseModel):
    """From a position (what comes after it) or from a time, one of the two."""

    model_config = ConfigDict(extra="forbid")

    position: int | None = Field(default=None, ge=0)
    time: datetime | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.position is None) == (self.time is None):
            raise ValueError("give position or time, and not both")
        return self


class Replayed(BaseModel):
    group: str
    position: int = Field(description="the group goes on after this one")


class EventDeadLetter(BaseModel):
    """An event that a group gave up on."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    group: str
    event: LoggedEvent
    reason: str
    attempts: int
    failed_at: datetime
    replay_requested_at: datetime | None


class EventDeadLetters(BaseModel):
    """Newest first; `before` of the next page is the last id that was looked at, null at the end."""

    items: list[EventDeadLetter]
    before: int | None

    @classmethod
    def of(cls, letters: list[DeadLetter], before: int | None) -> Self:
        return cls(items=[EventDeadLetter.model_validate(letter) for letter in letters], before=before)


class DeadLetterReplay(BaseModel):
    """These dead letters of the group, or all of them."""

    model_config = ConfigDict(extra="forbid")

    group: str = Field(min_length=1, max_length=200)
    ids: list[int] | None = Field(default=None, max_length=MAX_IDS)


class DeadLettersRequested(BaseModel):
    requested: int = Field(description="how many the group will be handed again")
