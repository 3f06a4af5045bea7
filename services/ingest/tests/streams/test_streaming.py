"""Rows in by HTTP or by Kafka itself, and out of the table."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import fastavro
import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.metrics import STREAM_IN_FLIGHT_BYTES
from lakegate_ingest.streams.avro import frame


def lines(*rows: Any) -> bytes:
    return b"\n".join(orjson.dumps(row) for row in rows)


async def rejects(streams: Any, table: str, count: int) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        answer = await streams.api.client.get(streams.path(table, "/rejects"))
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items if len(items) >= count else []

    return await eventually(look, within_seconds=120)


async def test_rows_are_acknowledged_by_the_brokers_and_reach_the_table(streams: Any) -> None:
    answer = await streams.send("shop.orders", lines({"id": 1, "name": "a"}, {"id": 2, "name": "b"}))
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["rows"] == 2
    assert sum(part["last"] - part["first"] + 1 for part in body["offsets"]) == 2
    await streams.has("shop.orders", [1, 2])

    array = await streams.send("shop.orders", orjson.dumps([{"id": 3}, {"id": 4, "name": "d"}]))
    one = await streams.send("shop.orders", b'{\n  "id": 5,\n  "name": "e"\n}')
    packed = await streams.send("shop.orders", gzip.compress(lines({"id": 6})), headers={"content-encoding": "gzip"})
    assert [array.status_code, one.status_code, packed.status_code] == [202, 202, 202]
    await streams.has("shop.orders", [1, 2, 3, 4, 5, 6])

    async def settled() -> bool:  # what kept a stream is shown until just after the commit that ended it
        status = (await streams.api.client.get(streams.path("shop.orders"))).json()
        return (status["lag"], status["failure"]) == (0, None)

    await eventually(settled)
    listed = (await streams.api.client.get("/v1/streams")).json()["items"]
    assert [item["table"] for item in listed] == ["shop.orders"]


async def test_a_cursor_of_streams_names_no_table_that_is_not_shown(
    streams: Any, streaming_url: str, make: Any, tenant: str
) -> None:
    for table in ("a.hidden", "b.shown", "c.hidden", "d.shown", "e.hidden"):
        assert (await streams.send(table, lines({"id": 1}))).status_code == 202
    reader = make(streaming_url, tenant, scopes=("datasets:read@b", "datasets:read@d"))
    first = (await reader.client.get("/v1/streams", params={"limit": 1})).json()
    assert [item["table"] for item in first["items"]] == ["b.shown"]
    assert "hidden" not in first["next"]
    second = (await reader.client.get(first["next"])).json()
    assert ([item["table"] for item in second["items"]], second["next"]) == (["d.shown"], None)


async def test_a_bad_row_refuses_the_request_and_is_pointed_at(streams: Any) -> None:
    assert (await streams.send("shop.strict", lines({"id": 1, "price": 1.5}))).status_code == 202
    body = [{"id": 2, "price": 2}, {"id": "x", "price": 3}, {"id": 4, "price": "dear"}, [5], {}]
    refused = await streams.send("shop.strict", orjson.dumps(body))
    assert refused.status_code == 422
    problem = refused.json()
    assert problem["type"] == "/problems/bad-rows"
    assert problem["bad_rows"] == 4
    assert [error["pointer"] for error in problem["errors"]] == ["/1/id", "/2/price", "/3", "/4"]
    # what is odd and yet right is taken
    assert (await streams.send("shop.strict", lines({"id": "7", "price": "8.5"}))).status_code == 202
    await streams.has("shop.strict", [1, 7])


async def test_bad_rows_are_set_aside_with_the_reason_when_that_is_asked_for(streams: Any) -> None:
    assert (await streams.send("shop.lax", lines({"id": 1}))).status_code == 202
    answer = await streams.send("shop.lax", lines({"id": "x"}, {"id": 2}), on_bad_row="quarantine")
    assert answer.status_code == 202, answer.text
    await streams.has("shop.lax", [1, 2])
    (found,) = await rejects(streams, "shop.lax", 1)
    assert (found["column"], found["value"], found["row"]) == ("id", "x", '{"id":"x"}')
    place = answer.json()["offsets"][0]
    assert (found["partition"], found["offset"]) == (place["partition"], place["first"])


async def test_poison_of_direct_producers_is_set_aside_and_the_rest_arrives(streams: Any, direct: Any) -> None:
    topic = (await streams.send("shop.direct", lines({"id": 1, "name": "a"}))).json()["topic"]
    poison = [
        b"",
        b"{",
        b"[1]",
        None,
        b'{"nothing": "known"}',
        b"\xff\xfe",
        b'{"id": 1e99}',
        b'{"id": 2, "name": "a\nb"}',
    ]
    await direct(topic, *poison, b'{"id": 3}', b'{"id":\n 4}', partition=0)
    await streams.has("shop.direct", [1, 3, 4])
    found = await rejects(streams, "shop.direct", len(poison))
    assert sorted(item["offset"] for item in found) == sorted({item["offset"] for item in found})
    assert len(found) == len(poison)
    assert all(item["reason"] for item in found)


async def test_avro_by_a_registered_schema_becomes_rows(streams: Any, direct: Any) -> None:
    topic = (await streams.send("shop.avro", lines({"id": 1, "price": 1.5, "at": "2026-01-01T00:00:00Z"}))).json()[
        "topic"
    ]
    schema = {
        "type": "record",
        "name": "Order",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "price", "type": ["null", "double"]},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    }
    client = streams.api.client
    made = await client.post(streams.path("shop.avro", "/schemas"), json={"schema": schema})
    again = await client.post(streams.path("shop.avro", "/schemas"), json={"schema": schema})
    assert [made.status_code, again.status_code] == [201, 200]
    assert made.json() == again.json()
    refused = await client.post(streams.path("shop.avro", "/schemas"), json={"schema": {"type": "nonsense"}})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bad-stream-schema")

    nested: Any = "long"
    for _ in range(400):
        nested = {"type": "array", "items": nested}
    for field in ({"type": "long", "default": 10**26}, {"type": nested}):
        odd = {"type": "record", "name": "Order", "fields": [{"name": "id", **field}]}
        answer = await client.post(streams.path("shop.avro", "/schemas"), json={"schema": odd})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/bad-stream-schema"), answer.text

    schema_id = made.json()["schema_id"]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, {"id": 2, "price": None, "at": 1_767_225_600_000_000})
    value = frame(schema_id, out.getvalue())
    await direct(topic, value, value[:-2], frame(schema_id + 1000, out.getvalue()))
    await streams.has("shop.avro", [1, 2])
    rows = {row["id"]: row for row in await streams.api.rows("shop.avro")}
    assert rows[2]["at"] == rows[1]["at"]
    assert rows[2]["price"] is None
    found = await rejects(streams, "shop.avro", 2)
    assert {"no Avro schema" in item["reason"] for item in found} == {True, False}


async def test_a_transaction_that_was_aborted_adds_nothing(streams: Any, direct: Any, kafka: Any) -> None:
    topic = (await streams.send("shop.aborted", lines({"id": 1}))).json()["topic"]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"test-{streams.tenant}")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b'{"id": 666}', partition=0)
        await producer.abort_transaction()
        await direct(topic, b'{"id": 3}', partition=0)
        async with producer.transaction():
            await producer.send_and_wait(topic, b'{"id": 2}', partition=0)
    finally:
        await producer.stop()
    await streams.has("shop.aborted", [1, 2, 3])
    tail = await tailed(streams, "shop.aborted", 3, begin="earliest")
    assert {event["row"]["id"] for _, event in tail} == {1, 2, 3}


async def test_zero_bytes_are_text_when_escaped_and_no_row_when_not(streams: Any) -> None:
    assert (await streams.send("shop.zero", lines({"id": 1, "name": "a"}))).status_code == 202
    raw = await streams.send("shop.zero", b'{"id": 2, "name": "b"}\n{"id": 3, "name": "c\0d"}')
    assert (raw.status_code, raw.json()["errors"][0]["pointer"]) == (422, "/1"), raw.text
    framed = await streams.send("shop.zero", b'{"id": 2}\n\0\0\0\0\1x')
    assert (framed.status_code, framed.json()["errors"][0]["pointer"]) == (422, "/1"), framed.text
    set_aside = await streams.send("shop.zero", b'{"id": 4, "name": "e\0f"}', on_bad_row="quarantine")
    assert set_aside.status_code == 202, set_aside.text
    assert (await streams.send("shop.zero", b'{"id": 5, "name": "g\\u0000h"}')).status_code == 202
    await streams.has("shop.zero", [1, 5])
    assert {row["id"]: row["name"] for row in await streams.api.rows("shop.zero")}[5] == "g\0h"
    (found,) = await rejects(streams, "shop.zero", 1)
    assert "not valid JSON" in found["reason"]


async def test_new_columns_follow_the_streams_policy(streams: Any, direct: Any) -> None:
    assert (await streams.send("shop.grows", lines({"id": 1}))).status_code == 202
    assert (await streams.send("shop.grows", lines({"id": 2, "colour": "red"}))).status_code == 202
    strict = await streams.send("shop.grows", lines({"id": 3, "size": 9}), on_new_column="reject")
    assert (strict.status_code, strict.json()["errors"][0]["pointer"]) == (422, "/0/size")
    await streams.has("shop.grows", [1, 2])
    assert {row["id"]: row["colour"] for row in await streams.api.rows("shop.grows")} == {1: None, 2: "red"}

    client = streams.api.client
    put = await client.put(streams.path("shop.grows"), json={"on_new_column": "reject"})
    assert put.status_code == 200, put.text
    lax = await streams.send("shop.grows", lines({"id": 4, "size": 9}), on_new_column="evolve")
    assert (lax.status_code, lax.json()["type"]) == (422, "/problems/bad-load-parameter")
    await direct(put.json()["topic"], b'{"id": 5, "size": 9}', b'{"id": 6}')
    await streams.has("shop.grows", [1, 2, 6])
    (found,) = await rejects(streams, "shop.grows", 1)
    assert found["column"] == "size"


async def test_a_stream_for_direct_producers_needs_a_table_and_a_scope(streams: Any, make: Any) -> None:
    client = streams.api.client
    missing = await client.put(streams.path("shop.nowhere"), json={})
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/table-not-found")
    unknown = await client.get(streams.path("shop.nowhere"))
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/stream-not-found")
    other = make(str(client.base_url), streams.tenant, ("loads:write@other.*", "datasets:read@other.*"))
    answers = [
        await other.client.post(streams.path("shop.orders"), content=b'{"id": 1}'),
        await other.client.get(streams.path("shop.orders")),
        await other.client.delete(streams.path("shop.orders")),
        await other.client.get(streams.path("shop.orders", "/tail")),
    ]
    assert [answer.status_code for answer in answers] == [403] * 4


async def test_a_deleted_stream_is_gone_and_its_next_rows_make_it_again(streams: Any) -> None:
    assert (await streams.send("shop.deleted", lines({"id": 1}))).status_code == 202
    await streams.has("shop.deleted", [1])
    client, path = streams.api.client, streams.path("shop.deleted")
    assert [(await client.delete(path)).status_code for _ in range(2)] == [204, 404]
    assert (await client.get(path)).status_code == 404
    assert (await streams.send("shop.deleted", lines({"id": 2}))).status_code == 202
    await streams.has("shop.deleted", [1, 2])


async def test_limits_are_problems(
    streams: Any, settings: Any, catalog: Any, kafka_settings: Any, make: Any, spool: Any
) -> None:
    many = await streams.send("shop.limits", b'{"id":1}\n' * 10_001)
    assert (many.status_code, many.json()["type"]) == (413, "/problems/too-many-rows")
    large = await streams.send("shop.limits", b" " * (17 << 20))
    assert (large.status_code, large.json()["type"]) == (413, "/problems/too-large")
    long = await streams.send("shop.limits", b'{"id":1,"t":"' + b"x" * (1 << 20) + b'"}')
    assert (long.status_code, long.json()["errors"][0]["pointer"]) == (422, "/0")
    empty = await streams.send("shop.limits", b"\n")
    assert (empty.status_code, empty.json()["type"]) == (422, "/problems/bad-rows")

    small = settings(catalog.url, spool, kafka=kafka_settings)
    small = small.model_copy(
        update={"streams": small.streams.model_copy(update={"max_in_flight_bytes": 1024, "worker": False})}
    )
    async with serving(create_app(small)) as url:
        busy = await make(url, streams.tenant).client.post(
            streams.path("shop.limits"), content=b'{"id":1}' + b" " * 2000
        )
    assert (busy.status_code, busy.json()["type"], busy.headers["retry-after"]) == (503, "/problems/stream-busy", "1")


async def test_what_is_announced_and_slow_to_come_takes_no_room_and_a_tenant_takes_its_share_only(
    streams: Any, settings: Any, catalog: Any, kafka_settings: Any, make: Any, spool: Any
) -> None:
    small = settings(catalog.url, spool, kafka=kafka_settings)
    limits = {"max_in_flight_bytes": 4096, "max_in_flight_bytes_per_tenant": 2048, "worker": False}
    small = small.model_copy(update={"streams": small.streams.model_copy(update=limits)})
    more = asyncio.Event()

    async def slowly(first: bytes) -> AsyncIterator[bytes]:
        yield first
        await more.wait()
        yield b" " * (4000 - len(first))

    async with serving(create_app(small)) as url:
        client, path = make(url, streams.tenant).client, streams.path("shop.slow")
        announced = {"content-length": "4000"}
        slow = [asyncio.create_task(client.post(path, content=slowly(b" "), headers=announced)) for _ in range(5)]
        assert (await client.post(path, content=b'{"id": 1}')).status_code == 202
        held = asyncio.create_task(client.post(path, content=slowly(b" " * 1500), headers=announced))

        async def arrived() -> bool:
            return STREAM_IN_FLIGHT_BYTES.collect()[0].samples[0].value == 5 + 1500

        await eventually(arrived)
        refused = await client.post(path, content=b'{"id": 2}' + b" " * 1000)
        assert (refused.status_code, "are its share" in refused.json()["detail"]) == (503, True)
        other = make(url, f"{streams.tenant}x").client
        assert (await other.post(path, content=b'{"id": 1}' + b" " * 1000)).status_code == 202
        more.set()
        answers = await asyncio.gather(*slow, held)
    assert {answer.status_code for answer in answers} <= {422, 503}  # white space only, or too much at once


async def test_a_tail_too_many_of_a_tenant_is_a_problem_and_a_closed_one_makes_room(
    streams: Any, settings: Any, catalog: Any, kafka_settings: Any, make: Any, spool: Any
) -> None:
    await streams.send("shop.places", lines({"id": 1}))
    small = settings(catalog.url, spool, kafka=kafka_settings)
    limits = {"max_tails": 3, "max_tails_per_tenant": 1, "worker": False}
    small = small.model_copy(update={"streams": small.streams.model_copy(update=limits)})
    async with serving(create_app(small)) as url:
        client = make(url, streams.tenant).client
        tail, params = streams.path("shop.places", "/tail"), {"begin": "earliest"}
        async with client.stream("GET", tail, params=params) as first:
            assert first.status_code == 200
            pieces = first.aiter_bytes()  # let go, it would close the answer
            assert await anext(pieces)
            refused = await client.get(tail)
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/too-many-streams")
            assert "Your tenant has 1 tails" in refused.json()["detail"]
            assert refused.headers["retry-after"] == "5"

        async def fits() -> bool:
            async with client.stream("GET", tail, params=params) as another:
                return bool(another.status_code == 200)

        await eventually(fits)


async def test_without_kafka_the_setting_is_named(api: Any) -> None:
    answer = await api.client.post("/v1/streams/shop/orders", content=b'{"id": 1}')
    assert answer.status_code == 501
    assert answer.json()["type"] == "/problems/streams-off"
    assert "INGEST_KAFKA__BOOTSTRAP" in answer.json()["detail"]


async def test_a_tail_shows_rows_before_they_are_committed_and_goes_on_where_it_was(streams: Any, direct: Any) -> None:
    await streams.send("shop.tail", lines({"id": 1}))
    first = await tailed(streams, "shop.tail", 1, begin="earliest")
    assert [event["row"] for _, event in first] == [{"id": 1}]
    await streams.send("shop.tail", lines({"id": 2, "price": 12345678901234567890.125}))
    second = await tailed(streams, "shop.tail", 1, last_event_id=first[-1][0])
    assert second[0][1]["row"]["id"] == 2
    await direct((await streams.api.client.get(streams.path("shop.tail"))).json()["topic"], b'{"id": 3, "\xc3(": 1}')
    third = await tailed(streams, "shop.tail", 1, last_event_id=second[-1][0])
    assert base64.b64decode(third[0][1]["unreadable"]) == b'{"id": 3, "\xc3(": 1}'


async def test_a_tail_that_comes_back_too_late_begins_with_the_first_row_that_is_left_and_says_so(
    streams: Any, direct: Any, admin: Any
) -> None:
    topic = (await streams.send("shop.late", lines({"id": 0}))).json()["topic"]
    await direct(topic, *(b'{"id": %d}' % number for number in range(1, 10)), partition=0)
    await streams.has("shop.late", list(range(10)))
    kept = (await tailed(streams, "shop.late", 10, begin="earliest"))[-1][0]
    ends = dict(part.split(":") for part in kept.partition("@")[0].split(","))
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=6)})
    last = ",".join(f"{partition}:{1 if partition == '0' else end}" for partition, end in ends.items())
    (_, gap), *left = await tailed(streams, "shop.late", 1 + int(ends["0"]) - 6, last_event_id=last)
    assert gap == {"partition": 0, "offset": 6, "reason": "Kafka no longer has the rows before"}
    assert [(event["partition"], event["offset"]) for _, event in left] == [(0, at) for at in range(6, int(ends["0"]))]

    other = f"{','.join(f'{partition}:0' for partition in ends)}@AAAAAAAAAAAAAAAAAAAAAA"
    events = await tailed(streams, "shop.late", len(ends) + 1, last_event_id=other)
    assert [event["reason"] for _, event in events[:-1]] == ["the topic was made anew since"] * len(ends)
    beyond = await tailed(streams, "shop.late", 2, last_event_id="0:99999")
    assert beyond[0][1] == {"partition": 0, "offset": 6, "reason": "the brokers have lost what was there"}


async def test_a_dropped_table_makes_the_stream_wait_and_its_next_rows_make_the_table_anew(
    streams: Any,
) -> None:
    assert (await streams.send("drop.t", lines(*({"id": number} for number in range(1, 6))))).status_code == 202
    await streams.has("drop.t", [1, 2, 3, 4, 5])
    await streams.drop("drop.t")

    async def sent() -> bool:
        return (await streams.send("drop.t", lines({"id": 6}, {"id": 7}))).status_code == 202 and await streams.exists(
            "drop.t"
        )

    await eventually(sent, within_seconds=30)

    async def arrived() -> bool:
        return await streams.committed("drop.t") > 0

    await eventually(arrived, within_seconds=120)
    found = {row["id"] for row in await streams.api.rows("drop.t")}
    assert found <= {6, 7}  # what was in the old table does not come again

    async def even() -> bool:  # also of partitions that the new table says nothing of
        return bool((await streams.api.client.get(streams.path("drop.t"))).json()["lag"] == 0)

    await eventually(even, within_seconds=30)


async def tailed(
    streams: Any, table: str, count: int, *, last_event_id: str | None = None, **params: str
) -> list[tuple[str, dict[str, Any]]]:
    """The first `count` events, with their ids."""
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    found: list[tuple[str, dict[str, Any]]] = []
    identity = ""
    async with streams.api.client.stream("GET", streams.path(table, "/tail"), params=params, headers=headers) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                identity = line.removeprefix("id: ")
            if line.startswith("data: "):
                found.append((identity, orjson.loads(line.removeprefix("data: "))))
                if len(found) == count:
                    break
    return found
