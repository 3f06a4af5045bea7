"""The contract of the event log: publishing and reading outside of groups."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from datetime import timedelta

import asyncpg
import pytest

from lakegate_chassis.testing import eventually


def numbers(events) -> list[int]:
    return [event.data["event"]["number"] for event in events]


async def test_an_event_whose_transaction_stayed_open_is_not_skipped(log, adapter, topic) -> None:
    async with adapter.transaction() as slow:
        await log.publish(slow, topic.event(1))
        await topic.publish(2)
        first = await topic.read()
        assert numbers(first) == [2]
    later = await topic.read(after=first[-1].position)
    assert numbers(later) == [1]
    assert numbers(await topic.read()) == [2, 1]


async def test_a_rolled_back_event_never_happened(log, adapter, topic) -> None:
    with suppress(ZeroDivisionError):
        async with adapter.transaction() as transaction:
            await log.publish(transaction, topic.event(1))
            raise ZeroDivisionError
    await topic.publish(2)
    assert numbers(await topic.read()) == [2]


async def test_an_event_comes_back_as_it_was_published(log, topic) -> None:
    (published,) = await topic.publish(1, text="ünï\0code", many=[1, 2.5, None, {"a": ":b"}])
    (read,) = await topic.read()
    assert (read.id, read.type, read.key, read.source, read.tenant, read.time) == (
        published.id,
        "openlineage.run_event.v1",
        "k",
        "test",
        "default",
        published.time,
    )
    assert read.data["event"] == {"number": 1, "text": "ünï\ufffdcode", "many": [1, 2.5, None, {"a": ":b"}]}


async def test_the_same_event_twice_is_there_once(log, adapter, topic) -> None:
    event = topic.event(1)
    for _ in range(2):
        async with adapter.transaction() as transaction:
            await log.publish(transaction, event)
    assert numbers(await topic.read()) == [1]


async def test_events_of_one_call_keep_their_order(topic) -> None:
    await topic.publish(*range(50))
    assert numbers(await topic.read()) == list(range(50))


async def test_positions_of_concurrent_writers_have_no_holes_for_a_reader(log, adapter, topic) -> None:
    """Twelve writers commit in any order while a reader follows: it sees every event once, by rising position."""

    async def write(writer: int) -> None:
        for number in range(10):
            async with adapter.transaction() as transaction:
                await log.publish(transaction, topic.event(number, key=str(writer)))

    seen = []

    async def follow() -> None:
        async with aclosing(log.read([topic.name], 0, limit=5)) as batches:
            async for batch in batches:
                seen.extend(batch)
                if len(seen) >= 60:
                    return

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for writer in range(6):
            group.create_task(write(writer))
    positions = [event.position for event in seen]
    assert positions == sorted(set(positions))
    for writer in range(6):
        assert numbers(event for event in seen if event.key == str(writer)) == list(range(10))


async def test_a_reader_that_follows_sees_what_comes_later(log, topic) -> None:
    async with asyncio.timeout(30), aclosing(log.read([topic.name], await log.head())) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await topic.publish(1)
        assert numbers(await waiting) == [1]


async def test_a_reader_survives_the_loss_of_its_notifications(log, adapter, topic) -> None:
    async with asyncio.timeout(30), aclosing(log.read([topic.name], await log.head())) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await eventually(adapter.has_listener)
        await adapter.kill_listeners()
        await topic.publish(1)
        assert numbers(await waiting) == [1]


@pytest.mark.parametrize("adapter", ["postgres"], indirect=True)
async def test_the_listening_connection_goes_with_the_last_reader(log, adapter, topic) -> None:
    async with asyncio.timeout(30), aclosing(log.read([topic.name], 0)) as batches:
        await topic.publish(1)
        await anext(batches)
        await eventually(adapter.has_listener)

    async def gone() -> bool:
        return not await adapter.has_listener()

    await eventually(gone)


async def test_the_head_is_at_or_after_what_was_committed(log, topic) -> None:
    await topic.publish(1)
    head = await log.head()
    assert (await topic.read())[-1].position <= head
    assert await topic.read(after=head) == []


async def test_a_time_is_found_again_as_a_position(log, topic) -> None:
    await topic.publish(1)
    second = (await topic.publish(2))[0]
    position = await log.position_before(second.time)
    assert numbers(await topic.read(after=position)) == [2]


@pytest.mark.parametrize("adapter", ["postgres"], indirect=True)
async def test_old_events_go_once_every_group_has_passed_them(log, adapter, topic) -> None:
    await topic.publish(1, 2)
    await adapter.age(topic.name, days=8)
    await topic.publish(3)
    async with log.join(topic.group, [topic.name]):
        pass
    await log.prune(timedelta(days=7), 100)
    assert numbers(await topic.read()) == [1, 2, 3]
    await adapter.have_no_groups()
    assert await log.prune(timedelta(days=7), 100) >= 2
    assert numbers(await topic.read()) == [3]


async def test_a_service_may_not_change_or_delete_events(adapter, topic) -> None:
    await topic.publish(1)
    for statement in ("DELETE FROM eventlog.events", "UPDATE eventlog.events SET data = '{}'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with adapter.transaction() as transaction:
                await transaction.execute(statement)
