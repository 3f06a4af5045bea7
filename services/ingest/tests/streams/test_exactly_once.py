"""No row lost and none doubled, whoever dies, sleeps or works on the same partition."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import fastavro
import orjson
import pytest

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import PostgresEventLog
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.http import upstream_client
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.testing import eventually
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.settings import IngestSettings, StreamSettings
from lakegate_ingest.streams.avro import frame
from lakegate_ingest.streams.resources import open_worker


def rows(first: int, last: int) -> bytes:
    return b"\n".join(orjson.dumps({"id": number}) for number in range(first, last + 1))


async def reached(gate: Any) -> None:
    async with asyncio.timeout(90):
        await gate.reached.wait()


def stream_files(warehouse: Path, tenant: str) -> list[Path]:
    return sorted((warehouse / tenant).rglob("data/streams/*.parquet"))


async def test_a_worker_killed_before_its_commit_arrives_neither_loses_nor_doubles_rows(
    streams_at: Any, producing_url: str, catalog: Any, gate: Any, start_worker: Any, warehouse: Path
) -> None:
    streams = streams_at(producing_url)
    assert (await streams.send("kill.before", rows(1, 50))).status_code == 202
    gate.on("POST", "/tables/before", "hold")
    victim = await start_worker(gate.url)
    await reached(gate)  # its files are in the warehouse, its commit is on the way
    victim.kill()
    assert (await streams.send("kill.before", rows(51, 60))).status_code == 202
    await start_worker(catalog.url, INGEST_STREAMS__ORPHAN_SECONDS="1")
    await streams.has("kill.before", list(range(1, 61)))
    gate.released.set()  # and now it arrives, from beyond the grave

    async def tidy() -> bool:
        manifests = await streams.metadata("kill.before")
        committed = [s for s in manifests["snapshots"] if s["summary"].get("added-data-files") == "1"]
        return len(stream_files(warehouse, streams.tenant)) == len(committed)

    await eventually(tidy, within_seconds=60)
    await streams.has("kill.before", list(range(1, 61)))


async def test_a_worker_killed_after_its_commit_and_before_it_knew_doubles_nothing(
    streams_at: Any, producing_url: str, catalog: Any, gate: Any, start_worker: Any
) -> None:
    streams = streams_at(producing_url)
    assert (await streams.send("kill.after", rows(1, 50))).status_code == 202
    gate.on("POST", "/tables/after", "hold-answer")
    victim = await start_worker(gate.url)
    await reached(gate)
    await streams.has("kill.after", list(range(1, 51)))
    victim.kill()  # Kafka was told of no offset
    assert (await streams.send("kill.after", rows(51, 60))).status_code == 202
    await start_worker(catalog.url)
    await streams.has("kill.after", list(range(1, 61)))


async def test_a_worker_that_slept_through_its_replacement_adds_nothing(
    streams_at: Any, producing_url: str, catalog: Any, gate: Any, start_worker: Any
) -> None:
    streams = streams_at(producing_url)
    assert (await streams.send("zombie.t", rows(1, 50))).status_code == 202
    gate.on("POST", "/tables/t", "lose")
    sleeper = await start_worker(gate.url)
    await reached(gate)  # its commit is lost, and before it can try again …
    os.kill(sleeper.child.pid, signal.SIGSTOP)
    await start_worker(catalog.url)
    await streams.has("zombie.t", list(range(1, 51)))
    os.kill(sleeper.child.pid, signal.SIGCONT)
    assert (await streams.send("zombie.t", rows(51, 60))).status_code == 202
    await streams.has("zombie.t", list(range(1, 61)))


async def test_members_come_and_go_and_every_row_arrives_once(
    streams_at: Any, producing_url: str, catalog: Any, start_worker: Any
) -> None:
    streams = streams_at(producing_url)
    await streams.send("group.t", rows(1, 30))
    first = await start_worker(catalog.url)
    await streams.has("group.t", list(range(1, 31)))
    await start_worker(catalog.url)
    for start in range(31, 91, 10):
        assert (await streams.send("group.t", rows(start, start + 9))).status_code == 202
    first.kill()
    for start in range(91, 121, 10):
        assert (await streams.send("group.t", rows(start, start + 9))).status_code == 202
    await streams.has("group.t", list(range(1, 121)))


@asynccontextmanager
async def worker_of(settings: IngestSettings, group: str) -> AsyncIterator[None]:
    """A worker in this process, as a member of `group`."""
    settings = settings.model_copy(update={"streams": settings.streams.model_copy(update={"group": group})})
    pool = await open_pool(settings.postgres, "ingest")
    client = upstream_client("catalog", settings.catalog_url)
    exchange = TokenExchange(client, settings.token_exchange_url)
    catalog = Catalog(client, exchange, timeout_seconds=10)
    background = Background()
    warehouse = Warehouse(settings.quarantine.location, settings.objects)
    turn = Turn(settings.consumers)
    log = PostgresEventLog(pool)
    async with open_worker(settings, pool, catalog, exchange, log, warehouse, background, turn):
        yield
        await background.stop(15)
    await client.aclose()
    await pool.close()


async def test_two_workers_on_the_same_partitions_add_each_row_once(
    streams_at: Any, producing_url: str, catalog: Any, settings: Any, kafka_settings: Any, spool: Path
) -> None:
    streams = streams_at(producing_url)
    own = StreamSettings(commit_seconds=0.1, discover_seconds=0.2, commit_rows=40)
    made = settings(catalog.url, spool, kafka=kafka_settings, streams=own)
    await streams.send("both.t", rows(1, 20))
    # groups of their own: Kafka gives all partitions to each, which it never does to members of one group
    async with worker_of(made, f"one-{streams.tenant}"), worker_of(made, f"other-{streams.tenant}"):
        for start in range(21, 201, 20):
            assert (await streams.send("both.t", rows(start, start + 19))).status_code == 202
        await streams.has("both.t", list(range(1, 201)))
    await streams.has("both.t", list(range(1, 201)))


async def test_much_avro_is_committed_in_parts_and_each_row_once(
    streams_at: Any, producing_url: str, catalog: Any, start_worker: Any, direct: Any
) -> None:
    streams = streams_at(producing_url)
    answer = await streams.send("parts.t", rows(1, 1))
    schema = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}
    made = await streams.api.client.post(streams.path("parts.t", "/schemas"), json={"schema": schema})
    values = []
    for number in range(2, 801):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, {"id": number})
        values.append(frame(made.json()["schema_id"], out.getvalue()))
    await direct(answer.json()["topic"], *values, partition=0)
    await start_worker(catalog.url, INGEST_STREAMS__COMMIT_BYTES="1024")
    await streams.has("parts.t", list(range(1, 801)))
    assert len((await streams.metadata("parts.t"))["snapshots"]) > 2


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.admin_url)
    yield connection
    await connection.close()


async def test_a_stream_is_one_run_of_lineage_that_ends_when_it_is_silent(
    streams_at: Any, settings: Any, catalog: Any, kafka_settings: Any, spool: Path, producing_url: str,
    admin: asyncpg.Connection,
) -> None:  # fmt: skip
    streams = streams_at(producing_url)
    own = StreamSettings(commit_seconds=0.1, discover_seconds=0.2, lineage_seconds=2)
    made = settings(catalog.url, spool, kafka=kafka_settings, streams=own)
    await streams.send("lineage.t", rows(1, 3))

    async def told() -> list[str]:
        found = await admin.fetch(
            "SELECT data->'event'->>'eventType' AS kind FROM eventlog.events "
            "WHERE tenant = $1 AND data->'event'->'job'->>'name' = 'stream.lineage.t' ORDER BY id",
            streams.tenant,
        )
        return [row["kind"] for row in found]

    async with worker_of(made, f"lineage-{streams.tenant}"):
        await streams.has("lineage.t", [1, 2, 3])

        async def ended() -> bool:
            return await told() == ["START", "COMPLETE"]

        await eventually(ended, within_seconds=60)


async def test_streams_that_are_made_do_not_cost_the_others_their_place(
    streams_at: Any, producing_url: str, catalog: Any, start_worker: Any
) -> None:
    streams = streams_at(producing_url)
    topic = (await streams.send("steady.rows", rows(1, 1))).json()["topic"]
    worker = await start_worker(catalog.url)
    await streams.has("steady.rows", [1])
    for number in range(2, 5):
        assert (await streams.send(f"fresh.s{number}", rows(number, number))).status_code == 202
        assert (await streams.send("steady.rows", rows(number, number))).status_code == 202
        await streams.has(f"fresh.s{number}", [number])
        await streams.has("steady.rows", list(range(1, number + 1)))
    said = [orjson.loads(line) for line in worker.log.read_bytes().splitlines() if line.startswith(b"{")]
    placed = [line["topic"] for line in said if line["event"] == "stream_placed"]
    assert placed.count(topic) == 1, placed
    assert len([line for line in said if line["event"] == "streams_assigned"]) > 3
