"""What only Kafka has: partitions shared out among members, a broker that dies or hangs, records others can read."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import (
    Consumer,
    Event,
    EventLog,
    GroupInUse,
    PermanentFailure,
    PostgresEventLog,
    RetryPolicy,
)
from lakegate_chassis.eventlog.kafka.positions import offsets_after
from lakegate_chassis.eventlog.kafka.relay import GROUP as RELAY
from lakegate_chassis.eventlog.kafka.topics import new_topic
from lakegate_chassis.metrics import BACKGROUND_RESTARTS
from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import DATASETS, LOADS

KEYS = 12
QUICK = RetryPolicy(attempts=2, first_pause_seconds=0.001, longest_pause_seconds=0.002)

pytestmark = pytest.mark.parametrize("adapter", ["kafka"], indirect=True)


@pytest.fixture
async def partitioned(adapter):
    """The log, whose new topics have four partitions."""
    adapter.partitions = 4
    return await adapter.open()


@pytest.fixture
def impatient(adapter) -> None:
    """The log's requests are given up soon; a producer looks for a topic that is gone for as long."""
    adapter.request_seconds = 2


class Effects:
    """A table as consumers keep one: an event's id is recorded with its effect, so that it has it once."""

    def __init__(self) -> None:
        self.seen: set[UUID] = set()
        self.deliveries = 0
        self.by_key: dict[str, list[int]] = defaultdict(list)

    async def __call__(self, event: Event) -> None:
        self.deliveries += 1
        if event.id not in self.seen:
            self.seen.add(event.id)
            self.by_key[event.key].append(event.data["event"]["number"])

    @property
    def count(self) -> int:
        return len(self.seen)


@asynccontextmanager
async def consuming(log, topic, handler, **options) -> AsyncIterator[None]:
    consumer = Consumer(
        log, group=topic.group, topics=[topic.name], handler=handler, **{"poll_seconds": 0.2, **options}
    )
    background = Background()
    background.start(topic.group, consumer.run)
    try:
        yield
    finally:
        await background.stop()


async def publish_by_key(topic, number: int) -> None:
    await topic.publish(number, key=f"key-{number % KEYS}")


def in_order(effects: Effects, total: int) -> bool:
    return all(
        effects.by_key[f"key-{key}"] == [number for number in range(total) if number % KEYS == key]
        for key in range(KEYS)
    )


async def test_two_members_share_the_partitions_and_each_key_keeps_its_order(partitioned, adapter, topic) -> None:
    effects, shares = Effects(), Counter()

    def member(name: str):
        async def handle(event: Event) -> None:
            shares[name] += 1
            await effects(event)

        return handle

    async def publish_until_shared(number: int) -> int:
        async with asyncio.timeout(30):
            while number < 60 or not (shares["first"] and shares["second"]):
                await publish_by_key(topic, number)
                number += 1
                await eventually(lambda goal=number - 20: effects.count >= goal)
        return number

    async with consuming(partitioned, topic, member("first")):
        for number in range(KEYS):
            await publish_by_key(topic, number)
        await eventually(lambda: effects.count == KEYS)
        shares.clear()
        async with consuming(await adapter.open(), topic, member("second")):
            total = await publish_until_shared(KEYS)
            await eventually(lambda: effects.count == total, within_seconds=30)
        # the one that stays gets the partitions of the one that left
        await publish_by_key(topic, total)
        await eventually(lambda: effects.count == total + 1)
    assert in_order(effects, total + 1)


async def test_members_that_come_and_go_lose_nothing_and_keep_the_order(partitioned, adapter, topic) -> None:
    effects = Effects()
    total = 200

    async def publish() -> None:
        for number in range(total):
            await publish_by_key(topic, number)

    others = [await adapter.open() for _ in range(2)]
    async with consuming(partitioned, topic, effects):
        publishing = asyncio.create_task(publish())
        for turn in range(4):
            async with consuming(others[turn % 2], topic, effects):
                goal = (turn + 1) * total // 5
                await eventually(lambda goal=goal: effects.count >= goal, within_seconds=30)
        await publishing
        await eventually(lambda: effects.count == total, within_seconds=30)
    assert in_order(effects, total)


@pytest.mark.parametrize("harm", ["kill", "hang"])
async def test_a_broker_that_goes_in_mid_flow_loses_nothing_and_doubles_no_effect(
    partitioned, adapter, topic, kafka, harm
) -> None:
    if kafka.control is None:
        pytest.skip("hurts the broker: only on one of our own")
    effects = Effects()
    total = 600

    async def publish(numbers: range) -> None:
        for number in numbers:
            await publish_by_key(topic, number)

    async with consuming(partitioned, topic, effects):
        await publish(range(100))
        await eventually(lambda: effects.count > 0)
        publishing = asyncio.create_task(publish(range(100, total)))
        await eventually(lambda: effects.count > 150)
        if harm == "kill":
            await asyncio.to_thread(kafka.control.kill)
            # writes go on: the outbox takes them
            await publishing
            await asyncio.to_thread(kafka.control.start)
        else:
            kafka.control.pause()
            await publishing
            kafka.control.resume()
        await eventually(lambda: effects.count == total, within_seconds=60)
    assert in_order(effects, total)


async def test_a_relay_that_was_killed_repeats_a_page_at_most(log, adapter, topic) -> None:
    effects = Effects()
    async with consuming(log, topic, effects):
        for number in range(KEYS * 5):
            await publish_by_key(topic, number)
            if number % 20 == 10:
                await adapter.kill_relay()
        await eventually(lambda: effects.count == KEYS * 5, within_seconds=40)
    assert in_order(effects, KEYS * 5)


async def test_a_record_is_a_cloudevent_in_binary_mode(log, topic, kafka) -> None:
    (event,) = await topic.publish(1, key="flights")
    (read,) = await topic.read()
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", group_id=None
    ) as consumer:
        await log._topics.ensure([topic.name])
        consumer.subscribe([topic.name])
        record = await asyncio.wait_for(consumer.getone(), 30)
    headers = {name: value.decode() for name, value in record.headers}
    assert record.key == b"default/flights"
    assert orjson.loads(record.value) == event.data
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": str(event.id),
        "ce_type": "openlineage.run_event.v1",
        "ce_source": "test",
        "ce_time": event.time.isoformat(),
        "ce_subject": "flights",
        "ce_tenant": "default",
        "ce_position": str(read.position),
        "content-type": "application/json",
    }


async def test_a_dead_letter_is_a_record_with_reason_and_coordinates(log, topic, kafka) -> None:
    async def handle(event: Event) -> None:
        raise ValueError("no such column")

    (event,) = await topic.publish(1)
    async with (
        consuming(log, topic, handle, retry=QUICK),
        AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", group_id=None) as consumer,
    ):

        async def buried() -> bool:
            return bool(await log.dead_letters(topic.group))

        await eventually(buried)
        await log._topics.ensure([f"{topic.name}.dlq"])
        consumer.subscribe([f"{topic.name}.dlq"])
        record = await asyncio.wait_for(consumer.getone(), 30)
    headers = {name: value.decode() for name, value in record.headers}
    assert headers["ce_id"] == str(event.id)
    assert {
        name: headers[f"dlq_{name}"] for name in ("group", "reason", "attempts", "topic", "partition", "offset")
    } == {
        "group": topic.group,
        "reason": "ValueError: no such column",
        "attempts": "2",
        "topic": topic.name,
        "partition": "0",
        "offset": "0",
    }
    assert orjson.loads(record.value) == event.data


async def test_a_record_that_is_no_event_of_ours_becomes_a_dead_letter_and_the_rest_goes_on(log, topic, kafka) -> None:
    effects = Effects()
    await log._topics.ensure([topic.name])
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        await producer.send_and_wait(topic.name, b"\xff not json", key=b"k")
    await topic.publish(1)
    async with consuming(log, topic, effects):
        await eventually(lambda: effects.count == 1)
    (letter,) = await log.dead_letters(topic.group)
    assert letter.reason.startswith("not a CloudEvent of ours")


async def test_an_event_that_no_record_can_hold_is_a_dead_letter_of_the_relay(log, adapter, topic) -> None:
    effects = Effects()
    large = "".join(f"{n:x}" for n in range(4_000_000))
    await topic.publish(1, large=large)
    await topic.publish(2)
    async with consuming(log, topic, effects):
        await eventually(lambda: effects.by_key["k"] == [2], within_seconds=40)
    (letter,) = await letters_of_the_relay(log, topic)
    await log.request_replay(RELAY, [letter.id])

    async def refused_again() -> bool:
        (again,) = await letters_of_the_relay(log, topic)
        return again.attempts == 2 and again.replay_requested_at is None

    await eventually(refused_again)


async def letters_of_the_relay(log, topic):
    return [letter for letter in await log.dead_letters(RELAY) if letter.event.topic == topic.name]


async def test_a_dead_letter_that_its_topic_refuses_is_tried_once_and_the_relay_goes_on(log, topic, kafka) -> None:
    effects = Effects()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic.name, 1, 1, topic_configs={"max.message.bytes": "100000"})])
    await admin.close()
    large = topic.event(1, large="x" * 200_000)
    await log._outbox.bury(RELAY, replace(large, position=1), "larger than it may be")
    (letter,) = await letters_of_the_relay(log, topic)
    await log.request_replay(RELAY, [letter.id])

    async def refused() -> bool:
        (again,) = await letters_of_the_relay(log, topic)
        return again.reason == "larger than its topic's max.message.bytes"

    await eventually(refused, within_seconds=30)
    await topic.publish(2)
    async with consuming(log, topic, effects):
        await eventually(lambda: effects.by_key["k"] == [2], within_seconds=30)


async def test_a_dead_letter_of_the_relay_that_fits_by_now_is_sent(log, topic) -> None:
    effects = Effects()
    await topic.publish(1)
    (event,) = await topic.read()
    await log._outbox.bury(RELAY, replace(event, id=uuid4(), key="late"), "larger than it may be")
    (letter,) = await letters_of_the_relay(log, topic)
    async with consuming(log, topic, effects):
        await log.request_replay(RELAY, [letter.id])
        await eventually(lambda: effects.by_key == {"k": [1], "late": [1]})

    async def gone() -> bool:
        return await letters_of_the_relay(log, topic) == []

    await eventually(gone)


async def test_a_position_is_found_in_every_partition(partitioned, adapter, topic) -> None:
    for number in range(40):
        await publish_by_key(topic, number)
    events = await topic.read()
    effects = Effects()
    async with consuming(partitioned, topic, effects):
        await eventually(lambda: effects.count == 40)
        again = Effects()
        middle = events[19].at
        offsets = await offsets_after(partitioned._connections, (await _partitions(adapter, topic.name)), middle)
        ends = await offsets_after(partitioned._connections, offsets.keys(), events[-1].at)
        assert sum(ends[partition] - offset for partition, offset in offsets.items()) == 20
        effects.seen, effects.by_key = again.seen, again.by_key
        await partitioned.rewind(topic.group, middle)
        await eventually(lambda: len(again.seen) == 20)
    assert {event.id for event in events[20:]} == again.seen


async def test_topics_are_made_as_the_contracts_declare_them(adapter, log, topic, kafka) -> None:
    names = [f"{DATASETS}-{uuid4()}", f"{LOADS}-{uuid4()}"]
    made = [new_topic(name, KafkaSettings(bootstrap=kafka.bootstrap)) for name in (DATASETS, LOADS)]
    for name, new in zip(names, made, strict=True):
        new.name = name
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics(made)
    described = {topic["topic"]: topic for topic in await admin.describe_topics(names)}
    configurations = {}
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names]):
        for resource in answer.resources:
            configurations[resource[3]] = {entry[0]: entry[1] for entry in resource[4]}
    await admin.close()
    assert [len(described[name]["partitions"]) for name in names] == [6, 6]
    assert configurations[names[0]]["cleanup.policy"] == "compact"
    assert configurations[names[1]]["retention.ms"] == str(7 * 24 * 3600 * 1000)


async def test_a_group_that_consumed_from_postgresql_goes_on_where_it_was(log, adapter, topic, database) -> None:
    effects = Effects()
    await topic.publish(1, 2)
    async with PostgresEventLog(adapter._pool).join(topic.group, [topic.name]) as member:
        batch = await member.next(1, 5)
        await member.commit(batch.through)
    async with consuming(log, topic, effects):
        await eventually(lambda: effects.by_key["k"] == [2])


async def test_a_group_of_postgresql_s_days_is_shown_and_can_be_forgotten(log, adapter, topic) -> None:
    """It holds the outbox back, as nothing runs it any more."""

    async def known(of: EventLog) -> bool:
        return topic.group in [state.group for state in await of.groups()]

    async def asked() -> bool:
        try:
            await log.forget_group("nobody")
        except ConnectionError:  # brokers that have had no group yet make the topic of their offsets first
            return False
        except KeyError:
            return True
        raise AssertionError("nobody was known")

    outbox = PostgresEventLog(adapter._pool)
    await eventually(asked)
    async with outbox.join(topic.group, [topic.name]):
        with pytest.raises(GroupInUse):
            await log.forget_group(topic.group)
    assert await known(log)
    await log.forget_group(topic.group)
    assert not await known(log)
    assert not await known(outbox)
    for gone in (topic.group, RELAY):
        with pytest.raises(KeyError):
            await log.forget_group(gone)


async def test_topics_that_are_deleted_under_way_are_made_again_by_the_same_process(
    impatient, log, topic, kafka
) -> None:
    effects = Effects()

    async def handle(event: Event) -> None:
        if event.key == "poison":
            raise PermanentFailure("not here")
        await effects(event)

    async def at_rest() -> bool:
        try:
            groups = await log.groups()
        except ConnectionError:  # no answer in the 2 s of an impatient client: it is asked again
            return False
        return any((s.group, s.dead_letters, s.lag) == (topic.group, 1, 0) for s in groups)

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    restarts = BACKGROUND_RESTARTS.labels("relay")._value.get()
    async with consuming(log, topic, handle):
        await topic.publish(1)
        await topic.publish(2, key="poison")
        await eventually(at_rest)
        await admin.delete_topics([topic.name, f"{topic.name}.dlq"])
        await topic.publish(3)
        await topic.publish(4, key="poison")
        await eventually(lambda: effects.by_key["k"] == [1, 3], within_seconds=60)

        async def both() -> bool:
            return len(await log.dead_letters(topic.group)) == 2

        await eventually(both, within_seconds=30)
        async with AIOKafkaConsumer(
            f"{topic.name}.dlq", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", group_id=None
        ) as consumer:
            copy = await asyncio.wait_for(consumer.getone(), 30)
    await admin.close()
    assert orjson.loads(copy.value)["event"]["number"] == 4
    assert BACKGROUND_RESTARTS.labels("relay")._value.get() - restarts <= 2


async def _partitions(adapter, name: str):
    from aiokafka.structs import TopicPartition

    return [TopicPartition(name, partition) for partition in range(adapter.partitions)]
