"""/v1/events: the log, its consumer groups and their dead letters, for holders of the scope admin.

Events and dead letters are those of the caller's tenant. Groups serve all tenants, so only admins of the operator's
tenant rewind or forget them, and they see the dead letters of no tenant, too: of records that were no events of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from lakegate_chassis.auth import require
from lakegate_chassis.eventlog import NO_TENANT, BeyondHead, DeadLetter, Event, EventLog, GroupInUse, GroupState
from lakegate_chassis.problems import FieldError, Forbidden, InvalidRequest, Unavailable
from lakegate_contracts.events import TOPICS
from lakegate_contracts.identity import Principal, Scope
from lakegate_lineage.deps import Caller, Log, Settings
from lakegate_lineage.errors import EventGroupInUse, EventGroupUnknown
from lakegate_lineage.eventlog.schemas import (
    DeadLetterReplay,
    DeadLettersRequested,
    EventDeadLetters,
    EventGroups,
    LoggedEvents,
    Replay,
    Replayed,
)
from lakegate_lineage.settings import LineageSettings

router = APIRouter(prefix="/v1/events", tags=["Events"])

Group = Annotated[str, Path(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=500, description="items in a page")]
_PAGE = 500
_AT_MOST = 10_000


@router.get("", response_model=LoggedEvents)
async def list_events(
    caller: Caller,
    log: Log,
    after: Annotated[int | None, Query(ge=0, description="position; without it, only what comes from now on")] = None,
    topic: Annotated[list[str] | None, Query(description="repeatable; without it, every topic of ours")] = None,
    limit: Limit = 100,
) -> LoggedEvents:
    """Events after a position, oldest first. It looks at 10,000 at most, so a page may be short before the end."""
    require(caller, Scope.ADMIN)
    position = await log.head() if after is None else after
    found: list[Event] = []
    looked_at = 0
    async with aclosing(log.read(topic or list(TOPICS), position, _PAGE, follow=False)) as batches:
        async for batch in batches:
            for event in batch:
                if len(found) == limit:
                    return LoggedEvents.of(found, position)
                position = event.at
                if event.tenant == caller.tenant:
                    found.append(event)
            looked_at += len(batch)
            if looked_at >= _AT_MOST:
                break
    return LoggedEvents.of(found, position)


@router.get("/groups", response_model=EventGroups)
async def list_groups(caller: Caller, log: Log) -> EventGroups:
    """Every consumer group: how far it is, how far behind, what it gave up on."""
    require(caller, Scope.ADMIN)
    return EventGroups.of(await _groups(log), await log.head())


@router.post("/groups/{group}/replay", response_model=Replayed, status_code=202)
async def replay(group: Group, body: Replay, caller: Caller, log: Log, settings: Settings) -> Replayed:
    """Let a group handle again what came after a position or since a time. Effects are there once: ids are known."""
    require(caller, Scope.ADMIN)
    if caller.tenant != settings.operator_tenant:
        raise Forbidden(
            "A group handles the events of all tenants, so only admins of the tenant that runs this installation may "
            "have it handle them again. Ask them; dead letters of your tenant you can replay yourself."
        )
    position = body.position
    if body.time is not None:
        time = body.time if body.time.tzinfo else body.time.replace(tzinfo=UTC)
        if time > datetime.now(UTC):
            raise InvalidRequest(
                f"{time.isoformat()} is yet to come: no event is newer. Give a time in the past.",
                errors=[FieldError(detail="a time in the past", pointer="/time")],
            )
        position = await log.position_before(time)
    assert position is not None
    try:
        await log.rewind(group, position)
    except KeyError:
        raise _unknown(group) from None
    except BeyondHead as error:
        raise InvalidRequest(
            f"The log's last position is {error.head:,}: after {position:,} the group would pass over everything that "
            f"comes until then. Give {error.head} to pass over what it has not handled yet.",
            errors=[FieldError(detail=f"at most {error.head}", pointer="/position")],
        ) from None
    return Replayed(group=group, position=position)


@router.delete("/groups/{group}", status_code=204)
async def forget(group: Group, caller: Caller, log: Log, settings: Settings) -> None:
    """Drop a group that nothing runs any more: events are kept until all groups have passed them.

    A group that has a member is refused. Dead letters stay.
    """
    require(caller, Scope.ADMIN)
    if caller.tenant != settings.operator_tenant:
        raise Forbidden(
            "A group handles the events of all tenants, so only admins of the tenant that runs this installation may "
            "drop it. Ask them."
        )
    try:
        with _kafka_asked():
            await log.forget_group(group)
    except KeyError:
        raise _unknown(group) from None
    except GroupInUse:
        raise EventGroupInUse(
            f"The group {group} has an active member. Stop what runs it, wait until it has left (a minute at most), "
            "and ask again."
        ) from None


@router.get("/dead-letters", response_model=EventDeadLetters)
async def list_dead_letters(
    caller: Caller,
    log: Log,
    settings: Settings,
    group: Annotated[str | None, Query(max_length=200)] = None,
    before: Annotated[int | None, Query(ge=0, description="`before` of the page before")] = None,
    limit: Limit = 100,
) -> EventDeadLetters:
    """Events that a group gave up on, newest first. Other tenants' are left out, so a page may hold fewer.

    Records that were no events of ours are of no tenant; admins of the operator's tenant see them.
    """
    require(caller, Scope.ADMIN)
    letters = await log.dead_letters(group, limit=limit, before_id=before)
    seen = _tenants_seen(caller, settings)
    following = letters[-1].id if len(letters) == limit else None
    return EventDeadLetters.of([letter for letter in letters if letter.event.tenant in seen], following)


@router.post("/dead-letters/replay", response_model=DeadLettersRequested, status_code=202)
async def replay_dead_letters(
    body: DeadLetterReplay, caller: Caller, log: Log, settings: Settings
) -> DeadLettersRequested:
    """Hand dead letters to their group again; each that has its effect then is gone."""
    require(caller, Scope.ADMIN)
    wanted = None if body.ids is None else set(body.ids)
    before: int | None = None
    ids: list[int] = []
    seen = _tenants_seen(caller, settings)
    while page := await log.dead_letters(body.group, limit=_PAGE, before_id=before):
        ids += [letter.id for letter in page if _is_meant(letter, seen, wanted)]
        before = page[-1].id
    # whoever has dead letters is known, also when no group of that name runs any more
    if before is None and all(state.group != body.group for state in await _groups(log)):
        raise _unknown(body.group)
    return DeadLettersRequested(requested=await log.request_replay(body.group, ids) if ids else 0)


def _tenants_seen(caller: Principal, settings: LineageSettings) -> set[str]:
    return {caller.tenant, NO_TENANT} if caller.tenant == settings.operator_tenant else {caller.tenant}


def _is_meant(letter: DeadLetter, seen: set[str], wanted: set[int] | None) -> bool:
    return letter.event.tenant in seen and (wanted is None or letter.id in wanted)


async def _groups(log: EventLog) -> list[GroupState]:
    with _kafka_asked():
        return await log.groups()


@contextmanager
def _kafka_asked() -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        raise Unavailable(
            "Kafka can't be reached, and it knows how far the groups are. Try again shortly.", retry_after=5
        ) from error


def _unknown(group: str) -> EventGroupUnknown:
    return EventGroupUnknown(f"There is no consumer group {group}. GET /v1/events/groups lists them.")
