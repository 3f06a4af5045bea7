"""Records that nothing can be made of: they are set aside, and never hold up those behind them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import LongType, NestedField

from lakegate_chassis.testing import eventually
from lakegate_ingest import engine
from lakegate_ingest.streams import shape
from lakegate_ingest.streams.avro import AvroReader, frame
from lakegate_ingest.streams.backlog import Backlog, Batch
from lakegate_ingest.streams.preparing import prepare

INVALID = b'{"id": 5, "note": "\xff\xfe"}'


async def rejects(streams: Any, table: str, count: int) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        answer = await streams.api.client.get(streams.path(table, "/rejects"))
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items if len(items) >= count else []

    return await eventually(look, within_seconds=120)


async def test_text_that_is_no_utf8_is_refused_or_set_aside(streams: Any, direct: Any, admin: Any) -> None:
    first = await streams.send("shop.bytes", b"[" + INVALID + b"]")
    assert (first.status_code, first.json()["errors"][0]["pointer"]) == (422, "/0")  # there is no table yet
    topic = (await streams.send("shop.bytes", b'{"id": 1, "note": "a", "price": 1.5}')).json()["topic"]
    body = b'[{"id": 2}, ' + INVALID + b', {"id": 6, "\xc3(": 1}, {"id": 7, "new": "\xff"}]'
    refused = await streams.send("shop.bytes", body)
    assert refused.status_code == 422, refused.text
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/1", "/2", "/3"]
    assert "not valid UTF-8" in refused.json()["errors"][0]["detail"]
    taken = await streams.send("shop.bytes", body, on_bad_row="quarantine")
    assert taken.status_code == 202, taken.text
    await direct(topic, INVALID, b'{"id": 8}')
    await streams.has("shop.bytes", [1, 2, 8])
    found = await rejects(streams, "shop.bytes", 4)
    assert f"{topic}-dlq-dlq" not in await admin.list_topics()  # rejects have no rejects
    assert [item["encoding"] for item in found] == ["base64"] * 4
    assert INVALID in {base64.b64decode(item["row"]) for item in found}


async def test_records_that_have_become_too_large_are_set_aside_as_far_as_brokers_take_them(
    streams: Any, direct: Any, kafka: Any
) -> None:
    topic = (await streams.send("shop.huge", b'{"id": 1}')).json()["topic"]
    # as large as the topic takes, before the worker's headers; and larger still, but for its compression
    for size, compression in ((16_842_647, None), (60_000_000, "gzip")):
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap, max_request_size=1 << 30, compression_type=compression
        )
        await producer.start()
        await producer.send_and_wait(topic, b"x" * size, partition=0)
        await producer.stop()
    await direct(topic, b'{"id": 2}', partition=0)
    await streams.has("shop.huge", [1, 2])
    found, path = [], streams.path("shop.huge", "/rejects")
    while path:  # a page of large records has few of them
        page = (await streams.api.client.get(path)).json()
        found += page["items"]
        path = page["next"]
    assert [item["cut_from_bytes"] for item in found] == [16_842_647, 60_000_000]
    assert {len(item["row"]) for item in found} == {16 << 20}
    assert "a row has at most" in found[0]["reason"]


class Record:
    def __init__(self, offset: int, value: bytes) -> None:
        self.offset, self.value, self.timestamp = offset, value, 1000


class Unforeseen(AvroReader):
    def json(self, data: bytes) -> bytes:
        if data == b"5":
            raise RuntimeError("nobody has thought of this")
        return b'{"id": %s}' % data


def test_a_record_that_nobody_has_foreseen_is_set_aside_alone(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", LongType()))
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "file:///nowhere")
    reader = Unforeseen({"type": "record", "name": "r", "fields": [{"name": "id", "type": "long"}]})
    backlog = Backlog("topic", frozenset({0}))
    backlog.place({0: 0}, None, {})
    backlog.seek = None
    backlog.add(0, [Record(offset, frame(7, b"%d" % offset)) for offset in range(10)], 10)
    written, aside = 0, []
    for turn in range(10):
        batch = backlog.seal()
        folder = tmp_path / str(turn)
        folder.mkdir()
        prepared = prepare(
            batch, metadata, {7: reader}, folder, on_new_column="reject", most_row_bytes=100, most_bytes=10_000,
            limits=engine.EngineLimits(),
        )  # fmt: skip
        head = backlog.give_back(batch, prepared.records) if prepared.records < len(batch) else batch
        written += prepared.read.rows_written
        aside += [head.offsets[reject.index] for reject in prepared.rejects]
        backlog.done(head)
        if not len(backlog.current):
            break
    assert (written, aside, backlog.committed) == (9, [5], {0: 10})


def test_what_nobody_has_foreseen_of_a_table_is_no_record_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unforeseen(_: Schema) -> None:
        raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr(shape, "_quick_decoder", unforeseen)
    schema = Schema(NestedField(1, "id", LongType()))
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "file:///nowhere")
    with pytest.raises(RuntimeError):
        prepare(
            Batch({0: 0}, {0: 1}, [b'{"id": 1}']), metadata, {}, tmp_path, on_new_column="reject", most_row_bytes=100,
            most_bytes=10_000, limits=engine.EngineLimits(),
        )  # fmt: skip
