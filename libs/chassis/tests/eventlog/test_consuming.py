"""The contract of the event log: consumer groups, redelivery, take-over, dead letters, replay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from lakegate_chassis import context, tracing
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import BeyondHead, Consumer, Event, GroupInUse, PermanentFailure, RetryPolicy
from lakegate_chassis.eventlog.metrics import REDELIVERED
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.testing import eventually

QUICK = RetryPolicy(attempts=3, first_pause_seconds=0.001, longest_pause_seconds=0.002)


def number(event: Event) -> int:
    return int(event.data["event"]["number"])


class Handler:
    """Remembers what it handled; `fail` says for which event to raise what."""

    def __init__(self, fail: Callable[[Event], Exception | None] | None = None) -> None:
        self.handled: list[int] = []
        self.attempts: list[int] = []
        self.fail = fail or (lambda _: None)

    async def __call__(self, event: Event) -> None:
        self.attempts.append(number(event))
        failure = self.fail(event)
        if failure is not None:
            raise failure
        self.handled.append(number(event))


class Stall:
    """Handles until `at`, then waits for `go`; `reached` is set when it waits."""

    def __init__(self, at: int) -> None:
        self.handled: list[int] = []
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self._at = at

    async def __call__(self, event: Event) -> None:
        if number(event) == self._at:
            self.reached.set()
            await self.go.wait()
        self.handled.append(number(event))


@asynccontextmanager
async def consuming(log, topic, handler, **options) -> AsyncIterator[None]:
    options = {"retry": QUICK, "poll_seconds": 0.2, **options}
    consumer = Consumer(log, group=topic.group, topics=[topic.name], handler=handler, **options)
    background = Background()
    background.start(topic.group, consumer.run)
    try:
        yield
    finally:
        await background.stop()


async def state(log, topic):
    return next(state for state in await log.groups() if state.group == topic.group)


async def test_each_event_is_handled_once_and_in_order(log, topic) -> None:
    handler = Handler()
    await topic.publish(*range(40))
    async with consuming(log, topic, handler, batch_size=7):
        await eventually(lambda: len(handler.handled) == 40)
        await topic.publish(40)
        await eventually(lambda: len(handler.handled) == 41)
    assert handler.handled == list(range(41))


async def test_an_event_whose_transaction_stayed_open_reaches_the_group(log, adapter, topic) -> None:
    handler = Handler()
    async with consuming(log, topic, handler):
        async with adapter.transaction() as slow:
            await log.publish(slow, topic.event(1))
            await topic.publish(2)
            await eventually(lambda: handler.handled == [2])
        await eventually(lambda: handler.handled == [2, 1])


async def test_a_new_group_may_begin_at_the_head(log, topic) -> None:
    handler = Handler()
    await topic.publish(1)
    async with consuming(log, topic, handler, from_head=True):

        async def joined() -> bool:
            return any(state.group == topic.group for state in await log.groups())

        await eventually(joined)
        await topic.publish(2)
        await eventually(lambda: handler.handled == [2])


async def test_a_group_is_forgotten_once_nobody_runs_it(log, topic) -> None:
    handler = Handler()
    await topic.publish(1)
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [1])
        with pytest.raises(GroupInUse):
            await log.forget_group(topic.group)
        await topic.publish(2)
        await eventually(lambda: handler.handled == [1, 2])
    await log.forget_group(topic.group)
    assert topic.group not in [known.group for known in await log.groups()]
    with pytest.raises(KeyError):
        await log.forget_group(topic.group)


async def test_a_failing_event_holds_back_the_later_ones_until_it_succeeds(log, topic) -> None:
    failures = iter([ValueError("once"), ValueError("twice")])
    handler = Handler(lambda event: next(failures, None) if number(event) == 2 else None)
    await topic.publish(1, 2, 3)
    async with consuming(log, topic, handler):
        await eventually(lambda: len(handler.handled) == 3)
    assert handler.handled == [1, 2, 3]
    assert handler.attempts == [1, 2, 2, 2, 3]
    assert await log.dead_letters(topic.group) == []


async def test_a_poison_event_becomes_a_dead_letter_and_the_rest_goes_on(log, topic) -> None:
    handler = Handler(lambda event: ValueError("no such column") if number(event) == 2 else None)
    events = await topic.publish(1, 2, 3)
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [1, 3])
    (letter,) = await log.dead_letters(topic.group)
    assert letter.event.id == events[1].id
    assert (letter.reason, letter.attempts) == ("ValueError: no such column", 3)
    assert letter.event.position == (await topic.read())[1].position
    assert letter.event.data == events[1].data
    assert (await state(log, topic)).dead_letters == 1


async def test_a_handler_can_say_that_trying_again_is_in_vain(log, topic) -> None:
    handler = Handler(lambda event: PermanentFailure("unknown type") if number(event) == 1 else None)
    await topic.publish(1, 2)
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [2])
    assert handler.attempts == [1, 2]


async def test_an_outage_is_waited_out_however_long(log, topic) -> None:
    failures = iter([Unavailable("the catalog is away")] * 12)
    handler = Handler(lambda _: next(failures, None))
    await topic.publish(1)
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [1])
    assert len(handler.attempts) == 13
    assert await log.dead_letters(topic.group) == []


async def test_attempts_are_remembered_across_a_restart(log, topic) -> None:
    handler = Handler(lambda _: ValueError("always"))
    patient = RetryPolicy(attempts=3, first_pause_seconds=600, longest_pause_seconds=600)
    await topic.publish(1)
    for attempt in (1, 2):
        async with consuming(log, topic, handler, retry=patient):

            async def counted(expected: int = attempt) -> bool:
                return any(s.group == topic.group and s.attempts == expected for s in await log.groups())

            await eventually(counted)
    async with consuming(log, topic, handler, retry=patient):

        async def buried() -> bool:
            return bool(await log.dead_letters(topic.group))

        await eventually(buried)
    assert len(handler.attempts) == 3


async def test_a_dead_letter_is_replayed_on_request(log, topic) -> None:
    broken = True
    handler = Handler(lambda event: ValueError("not yet") if broken and number(event) == 1 else None)
    await topic.publish(1, 2)
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [2])
        (letter,) = await log.dead_letters(topic.group)
        assert await log.request_replay(topic.group, [letter.id]) == 1

        async def refused() -> bool:
            (again,) = await log.dead_letters(topic.group)
            return again.attempts == 4 and again.replay_requested_at is None

        await eventually(refused)
        broken = False
        await log.request_replay(topic.group)
        await eventually(lambda: handler.handled == [2, 1])

        async def gone() -> bool:
            return await log.dead_letters(topic.group) == []

        await eventually(gone)


async def test_a_stop_in_mid_batch_commits_what_is_done(log, topic) -> None:
    await topic.publish(1, 2, 3, 4)
    stalled, after = Stall(at=3), Handler()
    async with consuming(log, topic, stalled):
        await stalled.reached.wait()
    assert stalled.handled == [1, 2]
    assert (await state(log, topic)).position == (await topic.read())[1].position
    async with consuming(log, topic, after):
        await eventually(lambda: after.handled == [3, 4])


async def test_what_a_killed_member_had_in_hand_is_redelivered_to_the_next(log, adapter, topic) -> None:
    await topic.publish(1, 2, 3, 4, 5)
    stalled, takeover = Stall(at=3), Handler()
    before = REDELIVERED.labels(topic.group)._value.get()
    async with consuming(log, topic, stalled):
        await stalled.reached.wait()
        async with consuming(await adapter.open(), topic, takeover):
            await adapter.kill_member(topic.group)
            await eventually(lambda: takeover.handled[-1:] == [5])
            stalled.go.set()
            await topic.publish(6)
            await eventually(lambda: 6 in takeover.handled + stalled.handled)
    # 1 was committed as a batch of its own. 2 was done: PostgreSQL did not know when the member went, and on Kafka
    # the member had committed it when the other one joined.
    redelivered = takeover.handled[: takeover.handled.index(5) + 1]
    assert redelivered in ([2, 3, 4, 5], [3, 4, 5])
    assert REDELIVERED.labels(topic.group)._value.get() - before >= 1
    assert (await state(log, topic)).lag >= 0


async def test_one_member_is_active_and_another_takes_over_when_it_leaves(log, adapter, topic) -> None:
    first, second = Handler(), Handler()
    async with consuming(await adapter.open(), topic, second):
        await topic.publish(1)
        await eventually(lambda: second.handled == [1])
        async with consuming(log, topic, first):
            await topic.publish(2)
            await eventually(lambda: second.handled == [1, 2])
            assert first.handled == []
    async with consuming(log, topic, first):
        await topic.publish(3)
        await eventually(lambda: first.handled == [3])
    assert second.handled == [1, 2]


async def test_groups_do_not_disturb_each_other(log, topic) -> None:
    ours, theirs = Handler(), Handler(lambda _: ValueError("never"))
    await topic.publish(1, 2)
    other = Consumer(log, group=topic.group + "-other", topics=[topic.name], handler=theirs, retry=QUICK)
    background = Background()
    background.start("other", other.run)
    async with consuming(log, topic, ours):
        await eventually(lambda: ours.handled == [1, 2])
    await eventually(lambda: theirs.attempts == [1, 1, 1, 2, 2, 2])
    await background.stop()


async def test_an_event_that_ends_the_process_every_time_becomes_a_dead_letter(log, adapter, topic) -> None:
    """The member's connection is cut while it handles event 3, and then its process comes back."""
    handler = Handler()

    async def deadly(event: Event) -> None:
        if number(event) == 3:
            await adapter.kill_member(topic.group)
            raise ConnectionError("the process is gone")
        await handler(event)

    await topic.publish(1, 2, 3, 4)
    async with consuming(log, topic, deadly):
        await eventually(lambda: handler.handled[-1:] == [4], within_seconds=120)
    (letter,) = await log.dead_letters(topic.group)
    assert number(letter.event) == 3
    assert letter.reason == "the process ended 3 times while it handled this"


async def test_a_group_is_rewound_to_a_position_and_to_a_time(log, topic) -> None:
    handler = Handler()
    events = await topic.publish(1, 2)
    (third,) = await topic.publish(3)
    assert events
    first = (await topic.read())[0]
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [1, 2, 3])
        await log.rewind(topic.group, first.position)
        await eventually(lambda: handler.handled == [1, 2, 3, 2, 3])
        await log.rewind(topic.group, await log.position_before(third.time))
        await eventually(lambda: handler.handled == [1, 2, 3, 2, 3, 3])


async def test_a_rewind_is_not_undone_by_the_batch_in_hand(log, topic) -> None:
    stalled = Stall(at=3)
    await topic.publish(1, 2, 3)
    async with consuming(log, topic, stalled):
        await stalled.reached.wait()
        await log.rewind(topic.group, 0)
        stalled.go.set()
        await eventually(lambda: stalled.handled == [1, 2, 3, 1, 2, 3])


async def test_an_unknown_group_can_not_be_rewound(log) -> None:
    with pytest.raises(KeyError):
        await log.rewind("nobody", 0)


async def test_a_group_is_not_moved_beyond_the_head(log, topic) -> None:
    handler = Handler()
    await topic.publish(1)
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [1])
        with pytest.raises(BeyondHead):
            await log.rewind(topic.group, await log.head() + 1)
        await log.rewind(topic.group, await log.head())
        await topic.publish(2)
        await eventually(lambda: handler.handled == [1, 2])


async def test_a_slow_member_holds_one_bounded_batch(log, topic) -> None:
    await topic.publish(*range(9))
    async with log.join(topic.group, [topic.name]) as member:
        assert 1 <= len(await next_events(member, 5)) <= 5


async def test_a_batch_of_large_events_is_bounded_in_bytes(log, topic) -> None:
    large = "".join(f"{n:x}" * 7 for n in range(150_000))
    for n in range(12):
        await topic.publish(n, large=large + str(n))
    async with log.join(topic.group, [topic.name]) as member:
        events = await next_events(member, 1_000)
        assert sum(len(str(event.data)) for event in events) < 64 * 1024 * 1024


async def next_events(member, limit: int) -> list[Event]:
    async def some() -> list[Event]:
        return (await member.next(limit, 1)).events

    return await eventually(some)


async def test_other_topics_events_do_not_hold_the_group_back(log, topic, adapter) -> None:
    handler = Handler()
    await topic.publish(1)
    async with consuming(log, topic, handler):
        await eventually(lambda: handler.handled == [1])
        async with adapter.transaction() as transaction:
            foreign = Event(**{**{f: getattr(topic.event(2), f) for f in Event.__dataclass_fields__}, "topic": "x"})
            await log.publish(transaction, foreign)
        head = await log.head()

        async def passed() -> bool:
            return (await state(log, topic)).position >= head

        await eventually(passed)


async def test_a_handler_runs_in_the_trace_of_the_publisher(log, topic) -> None:
    info, _ = tracing.start("request-1", None)
    seen: list[context.RequestInfo] = []

    async def handler(event: Event) -> None:
        seen.append(context.current())

    context.enter(info)
    await topic.publish(1)
    context.enter(context.NO_REQUEST)
    async with consuming(log, topic, handler):
        await eventually(lambda: len(seen) == 1)
    assert seen[0].trace_id == info.trace_id
    assert seen[0].span_id != info.span_id
