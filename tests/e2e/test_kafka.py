"""The same suite with its events on Kafka, by settings alone; skipped where no Kafka is to be had."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from suites import Suite, start_suite, until
from websockets.sync.client import connect

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("E2E_URL")), reason="chooses its own event log: only on a suite of its own"
)
SERVICES = ("CATALOG", "INGEST", "LINEAGE")


@pytest.fixture(scope="module")
def suite_on_kafka(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with pytest.MonkeyPatch.context() as environment:
        for service in SERVICES:
            environment.setenv(f"{service}_KAFKA__BOOTSTRAP", kafka.bootstrap)
        started = start_suite(tmp_path_factory.mktemp("suite"))
    yield started
    started.stop()


def lineage_of(suite: Suite, table: str) -> list[dict[str, Any]]:
    with suite.client() as lake:
        answer = lake.get("/v1/lineage/graph", params={"namespace": "lakegate://default", "name": table})
    return answer.json()["nodes"] if answer.status_code == 200 else []


def push(suite: Suite, table: str, body: bytes) -> dict[str, Any]:
    namespace, _, name = table.rpartition(".")
    with suite.client() as lake:
        answer = lake.post(f"/v1/loads/{namespace}/{name}", content=body, params={"name": "a.csv"})
    assert answer.status_code == 201, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


def group(suite: Suite) -> dict[str, Any]:
    with suite.client() as lake:
        listed = lake.get("/v1/events/groups").json()["items"]
    return next((item for item in listed if item["group"] == "lineage"), {"lag": -1})


async def lineage_reads_from(bootstrap: str) -> bool:
    """Whether the lineage service soon has records of that broker behind it; a group commits after the effect."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for _ in range(200):
            if any(place.offset for place in (await admin.list_consumer_group_offsets("lineage")).values()):
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        await admin.close()


async def test_a_load_reaches_lineage_and_search_through_kafka(suite_on_kafka: Suite, kafka: Any) -> None:
    receipt = push(suite_on_kafka, "shop.orders", b"id\n1\n2\n")
    assert until(lambda: lineage_of(suite_on_kafka, "shop.orders"), within_seconds=30)
    assert await lineage_reads_from(kafka.bootstrap), "the events took another way"
    with suite_on_kafka.client() as lake:
        found = lake.get("/v1/search", params={"q": "orders", "consistency_token": receipt["consistency_token"]})
    assert [item["name"] for item in found.json()["items"]] == ["shop.orders"]


def rows(suite: Suite, table: str) -> list[dict[str, Any]]:
    namespace, _, name = table.rpartition(".")
    with suite.client() as lake:
        answer = lake.get(f"/v1/tables/{namespace}/{name}/rows")
    return sorted((json.loads(line) for line in answer.iter_lines()), key=lambda row: row["id"])


def test_rows_stream_into_a_table_and_are_seen_on_the_way(suite_on_kafka: Suite) -> None:
    with suite_on_kafka.client() as lake:
        sent = lake.post("/v1/streams/shop/clicks", content=b'{"id": 1, "page": "/"}\n{"id": 2, "page": "/a"}')
        assert sent.status_code == 202, sent.text
        refused = lake.post("/v1/streams/shop/clicks", json=[{"id": 3}, {"id": "three"}])
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/1/id")

        address = suite_on_kafka.url.replace("http", "ws", 1) + "/v1/streams/shop/clicks/ws"
        with connect(address, additional_headers={"Authorization": f"Bearer {suite_on_kafka.key}"}) as socket:
            for number in (4, 5):
                socket.send(json.dumps({"id": number, "page": "/b"}))
            socket.send("nonsense")
            answers = [json.loads(socket.recv(timeout=30)) for _ in range(3)]
            assert not socket.protocol.extensions, "what is read at once could hold any number of compressed messages"
        assert [answer["message"] for answer in answers] == [0, 1, 2]
        assert [answer["status"] for answer in answers] == [202, 202, 422]

        seen = []
        with lake.stream("GET", "/v1/streams/shop/clicks/tail", params={"begin": "earliest"}) as tail:
            for line in tail.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: "))["row"]["id"])
                if len(seen) == 4:
                    break
        assert sorted(seen) == [1, 2, 4, 5]

    environment = {"LAKEGATE_URL": suite_on_kafka.url, "LAKEGATE_KEY": suite_on_kafka.key, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "lakegate", "stream", "push", "-", "shop.clicks", "--json"]
    pushed = subprocess.run(command, input=b'{"id": 6}\n\n{"id": 7}', capture_output=True, env=environment, timeout=60)
    assert json.loads(pushed.stdout) == {"table": "shop.clicks", "rows": 2}
    command = [sys.executable, "-m", "lakegate", "stream", "tail", "shop.clicks", "--earliest", "-n", "6", "--json"]
    tailed = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert {json.loads(line)["row"]["id"] for line in tailed.stdout.splitlines()} == {1, 2, 4, 5, 6, 7}

    ids = [1, 2, 4, 5, 6, 7]
    until(lambda: [row["id"] for row in rows(suite_on_kafka, "shop.clicks")] == ids, within_seconds=60)
    nodes = until(lambda: lineage_of(suite_on_kafka, "shop.clicks"), within_seconds=60)
    assert {"lakegate.stream.default.shop.clicks", "stream.shop.clicks"} <= {node["name"] for node in nodes}
    with suite_on_kafka.client() as lake:
        # the mark of the CLI's transaction is passed after its rows
        until(lambda: lake.get("/v1/streams/shop/clicks").json()["lag"] == 0, within_seconds=60)


def test_a_tail_ends_with_the_key_that_it_was_opened_with(suite_on_kafka: Suite) -> None:
    with suite_on_kafka.client() as lake:
        assert lake.post("/v1/streams/shop/watched", content='{"id": 1}').status_code == 202
        wanted = {"name": "watcher", "scopes": ["datasets:read@shop"]}
        made = lake.post("/v1/keys", json=wanted).json()
        path, params = "/v1/streams/shop/watched/tail", {"begin": "earliest"}
        with (
            suite_on_kafka.client(made["key"]) as watcher,
            watcher.stream("GET", path, params=params) as tail,
        ):
            lines = tail.iter_lines()
            row = next(line for line in lines if line.startswith("data: "))
            assert json.loads(row.removeprefix("data: "))["row"] == {"id": 1}
            assert lake.delete(f"/v1/keys/{made['id']}").status_code == 204
            assert not [line for line in lines if line.startswith("data: ")]  # to its end, ten minutes too early
            assert watcher.get(path).status_code == 401


def test_the_broker_dies_and_what_was_loaded_meanwhile_arrives(suite_on_kafka: Suite, kafka: Any) -> None:
    if kafka.control is None:
        pytest.skip("hurts the broker: only on one of our own")
    push(suite_on_kafka, "shop.before", b"id\n1\n")
    assert stream(suite_on_kafka, 1).status_code == 202
    kafka.control.kill()
    tables = [f"shop.meanwhile_{number}" for number in range(5)]
    for table in tables:
        push(suite_on_kafka, table, b"id\n1\n")
    refused = stream(suite_on_kafka, 2)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/stream-unacknowledged")
    assert int(refused.headers["retry-after"]) > 0
    kafka.control.start()
    for table in ["shop.before", *tables]:
        assert until(lambda table=table: lineage_of(suite_on_kafka, table), within_seconds=60)
    until(lambda: group(suite_on_kafka)["lag"] == 0, within_seconds=60)
    with suite_on_kafka.client() as lake:
        assert lake.get("/v1/events/dead-letters").json()["items"] == []
    until(lambda: stream(suite_on_kafka, 3).status_code == 202, within_seconds=60)
    until(lambda: {1, 3} <= {row["id"] for row in rows(suite_on_kafka, "shop.outage")}, within_seconds=60)
    ids = [row["id"] for row in rows(suite_on_kafka, "shop.outage")]
    assert ids in ([1, 3], [1, 2, 3])  # what was answered 503 may have arrived, and has not arrived twice


def stream(suite: Suite, number: int) -> httpx.Response:
    with suite.client() as lake:
        return lake.post("/v1/streams/shop/outage", json={"id": number})
