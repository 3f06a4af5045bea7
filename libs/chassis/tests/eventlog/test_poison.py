"""Nothing that stands in a topic may hold a group back: it becomes a dead letter, and the next event is handled."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Consumer, Event, PermanentFailure
from lakegate_chassis.eventlog.kafka import KafkaEventLog
from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually

LIMIT = KafkaSettings().max_event_bytes
on_kafka = pytest.mark.parametrize("adapter", ["kafka"], indirect=True)


def headers(**changed: bytes | None) -> list[tuple[str, bytes | None]]:
    """Those of an event of ours; a changed one may have no value."""
    whole = {
        "ce_id": str(uuid4()).encode(),
        "ce_type": b"openlineage.run_event.v1",
        "ce_source": b"test",
        "ce_time": b"2026-01-01T00:00:00+00:00",
        "ce_subject": b"k",
        "ce_tenant": b"default",
    }
    return list((whole | changed).items())


FINE = b'{"event":{"number":0}}'
DEEP = b'{"event":' + b"[" * 400 + b"]" * 400 + b"}"
BINARY = bytes(range(128, 256)) * (8 << 13)
# what of the record is strange, and how its row says why it was put aside
POISON: dict[str, tuple[dict[str, Any], str]] = {
    "a NUL byte in the key": ({"key": b"a\0b", "value": b"{}"}, "not a CloudEvent of ours: KeyError"),
    "a binary key": ({"key": b"\xff\xfe\x80", "value": b"{}"}, "not a CloudEvent of ours: KeyError"),
    "no key, no value": ({"key": b"", "value": None}, "not a CloudEvent of ours: KeyError"),
    "a header without a value": ({"value": FINE, "headers": headers(ce_id=None)}, "not a CloudEvent of ours: KeyError"),
    "binary in a header": (
        {"value": FINE, "headers": headers(ce_type=b"\xff\xfe")},
        "not a CloudEvent of ours: UnicodeDecodeError",
    ),
    "a position beyond 64 bits": (
        {"value": FINE, "headers": headers(ce_position=b"9" * 30)},
        "not a CloudEvent of ours: ValueError: ce_position",
    ),
    "a position of thousands of digits": (
        {"value": FINE, "headers": headers(ce_position=b"9" * 9000)},
        "not a CloudEvent of ours: ValueError: ce_position",
    ),
    "a negative position": (
        {"value": FINE, "headers": headers(ce_position=b"-3")},
        "not a CloudEvent of ours: ValueError: ce_position",
    ),
    "a time without an offset": (
        {"value": FINE, "headers": headers(ce_time=b"2026-01-01T00:00:00")},
        "not a CloudEvent of ours: ValueError: ce_time",
    ),
    "a time outside of the calendar": (
        {"value": FINE, "headers": headers(ce_time=b"9999-12-31T23:59:59-12:00")},
        "not a CloudEvent of ours: OverflowError",
    ),
    "an array": ({"value": b"[1]", "headers": headers()}, "not a CloudEvent of ours: ValueError: the value is no"),
    "8 MiB of binary": ({"value": BINARY, "headers": []}, "not a CloudEvent of ours: KeyError"),
    "more than an event may have, once decompressed": (
        {"value": b"x" * (LIMIT + 1), "headers": headers()},
        "not a CloudEvent of ours: ValueError: a value of",
    ),
    "NUL bytes in every text": (
        {"value": FINE, "headers": headers(ce_type=b"a\0", ce_source=b"a\0", ce_subject=b"a\0", traceparent=b"a\0")},
        "PermanentFailure: not here",
    ),
    "a document deeper than can be written": ({"value": DEEP, "headers": headers()}, "PermanentFailure: not here"),
}


async def refuse_what_is_not_ours(event: Event) -> None:
    if event.source != "test" or event.key != "ours":
        raise PermanentFailure("not here")


@asynccontextmanager
async def consuming(log, topic, handler) -> AsyncIterator[None]:
    consumer = Consumer(log, group=topic.group, topics=[topic.name], handler=handler, poll_seconds=0.2)
    background = Background()
    background.start(topic.group, consumer.run)
    try:
        yield
    finally:
        await background.stop()


async def read_all(bootstrap: str, topic: str, count: int) -> list[Any]:
    async with (
        AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            group_id=None,
            max_partition_fetch_bytes=1 << 25,
        ) as consumer,
        asyncio.timeout(30),
    ):
        return [await consumer.getone() for _ in range(count)]


@on_kafka
async def test_whatever_the_bytes_are_a_record_becomes_a_dead_letter_and_the_next_is_handled(log, topic, kafka) -> None:
    handled: list[Event] = []

    async def handle(event: Event) -> None:
        await refuse_what_is_not_ours(event)
        handled.append(event)

    await log._topics.ensure([topic.name])
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type="gzip", max_request_size=1 << 26
    ) as producer:
        for record, _ in POISON.values():
            await producer.send_and_wait(topic.name, **record)
    await topic.publish(1, key="ours")
    async with consuming(log, topic, handle):
        await eventually(lambda: len(handled) == 1, within_seconds=30)
    letters = (await log.dead_letters(topic.group))[::-1]
    assert len(letters) == len(POISON)
    for letter, (name, (_, why)) in zip(letters, POISON.items(), strict=True):
        assert (letter.event.topic, letter.attempts) == (topic.name, 1)
        assert letter.reason.startswith(why), name

    # what is no event of ours has no effect that a replay could have
    strangers = [letter for letter in letters if letter.event.type == "unknown"]
    assert await log.request_replay(topic.group) == len(letters)
    async with consuming(log, topic, handle):

        async def looked_at() -> bool:
            return all(letter.replay_requested_at is None for letter in await log.dead_letters(topic.group))

        await eventually(looked_at, within_seconds=30)
    left = {letter.event.id: letter.reason for letter in await log.dead_letters(topic.group)}
    assert {letter.event.id: letter.reason for letter in strangers}.items() <= left.items()
    assert len(strangers) == len(POISON) - 1
    await log.prune(timedelta(0), 100)
    assert {letter.event.id for letter in strangers}.isdisjoint(
        letter.event.id for letter in await log.dead_letters(topic.group)
    )

    # the topic of dead letters has the records as they were, but for the one that is too large
    copies = await read_all(kafka.bootstrap, f"{topic.name}.dlq", len(POISON))
    for offset, ((record, _), copy) in enumerate(zip(POISON.values(), copies, strict=True)):
        said = dict(copy.headers)
        assert (said["dlq_topic"], said["dlq_offset"]) == (topic.name.encode(), str(offset).encode())
        if "dlq_sha256" in said:
            assert said["dlq_sha256"].decode() == hashlib.sha256(record["value"]).hexdigest()
            assert len(record["value"]) > LIMIT
        else:
            assert (copy.key, copy.value) == (record.get("key"), record["value"])
            assert copy.headers[: len(record.get("headers", []))] == tuple(record.get("headers", []))


@on_kafka
async def test_a_foreign_header_that_is_no_text_does_not_make_an_event_a_stranger(log, topic, kafka) -> None:
    handled: list[Event] = []

    async def handle(event: Event) -> None:
        handled.append(event)

    await log._topics.ensure([topic.name])
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        foreign = [*headers(ce_position=b"7"), ("b3", b"\xff\xfe"), ("empty", None)]
        await producer.send_and_wait(topic.name, FINE, headers=foreign)
    async with consuming(log, topic, handle):
        await eventually(lambda: len(handled) == 1)
    assert (handled[0].position, handled[0].data) == (7, orjson.loads(FINE))


@pytest.mark.parametrize("adapter", ["postgres", "kafka"], indirect=True)
async def test_an_event_as_large_as_they_may_be_that_fails_is_a_dead_letter(log, adapter, topic, request) -> None:
    handled: list[int] = []

    async def handle(event: Event) -> None:
        if "large" in event.data["event"]:
            raise PermanentFailure("a reason with \0 and \ud800")
        handled.append(event.data["event"]["number"])

    # what the key, the headers and the framing of its record take
    await topic.publish(1, large="x" * (LIMIT - 600))
    await topic.publish(2)
    async with consuming(log, topic, handle):
        await eventually(lambda: handled == [2], within_seconds=30)
    (letter,) = await log.dead_letters(topic.group)
    assert len(letter.event.data["event"]["large"]) == LIMIT - 600
    assert letter.reason == "PermanentFailure: a reason with \ufffd and ?"
    if isinstance(log, KafkaEventLog):
        (copy,) = await read_all(request.getfixturevalue("kafka").bootstrap, f"{topic.name}.dlq", 1)
        assert (copy.key, copy.value) == (b"0:0", b"")
        assert dict(copy.headers)["dlq_left_out"].startswith(b"1677")


@on_kafka
async def test_an_event_whose_key_makes_its_record_too_large_does_not_stop_the_relay(log, topic) -> None:
    handled: list[str] = []

    async def handle(event: Event) -> None:
        handled.append(event.key)

    await topic.publish(1, key="k" * 100_000, large="x" * (LIMIT - 600))
    await topic.publish(2)
    async with consuming(log, topic, handle):
        await eventually(lambda: handled == ["k"], within_seconds=30)
