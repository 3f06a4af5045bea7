"""Event streams: HTTP to Kafka, Kafka to committed Iceberg, and how fresh a table is; beside raw aiokafka.

python -m bench.streams [--rows 400000] [--clients 4] [--seconds 30]

A whole suite with an API that has no stream worker, Apache's broker by Maven (or LAKEGATE_TEST_KAFKA), and then a
worker as a process of its own. Rows/s of the raw producer are of the same records in the same run, by `send` and in
batches.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from bench.suite import Suite, running

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers import Servers
from servers.kafka import SOURCES

AT_ONCE = 10_000
PARTITIONS = 6
COMMIT_SECONDS = 5.0
RAW = "bench.raw"


def row(number: int) -> bytes:
    """About 200 bytes, as events of an application are."""
    return orjson.dumps(
        {
            "id": number,
            "carrier": "UA",
            "flight": number % 5000,
            "origin": "EWR",
            "dest": "IAH",
            "air_time": number % 700 / 7,
            "at": "2026-01-01T05:17:00.250000Z",
            "note": "a field with some words in it, as there always is one",
        }
    )


async def raw_produce(bootstrap: str, rows: list[bytes]) -> tuple[float, float]:
    """Rows/s of an idempotent producer with acks=all: `send` for each row, and explicit batches."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(RAW, PARTITIONS, 1)])
    await admin.close()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5, max_batch_size=1 << 20
    )
    await producer.start()
    try:
        began = perf_counter()
        sent = [await producer.send(RAW, value) for value in rows]
        await asyncio.gather(*sent)
        by_send = len(rows) / (perf_counter() - began)

        began = perf_counter()
        acknowledged = []
        turn = 0
        batch = producer.create_batch()
        for value in rows:
            if batch.append(key=None, value=value, timestamp=None) is None:
                acknowledged.append(await producer.send_batch(batch, RAW, partition=turn % PARTITIONS))
                turn += 1
                batch = producer.create_batch()
                batch.append(key=None, value=value, timestamp=None)
        acknowledged.append(await producer.send_batch(batch, RAW, partition=turn % PARTITIONS))
        await asyncio.gather(*acknowledged)
        return by_send, len(rows) / (perf_counter() - began)
    finally:
        await producer.stop()


async def post_rows(suite: Suite, rows: list[bytes], clients: int) -> float:
    """Rows/s through the gateway, 10,000 a request."""
    bodies = [b"\n".join(rows[start : start + AT_ONCE]) for start in range(0, len(rows), AT_ONCE)]
    waiting = iter(bodies)

    async def client(http: httpx.AsyncClient) -> None:
        for body in waiting:
            answer = await http.post("/v1/streams/bench/rows", content=body)
            assert answer.status_code == 202, answer.text

    headers = {"Authorization": f"Bearer {suite.key}"}
    async with httpx.AsyncClient(base_url=suite.url, headers=headers, timeout=120) as http:
        first = await http.post("/v1/streams/bench/rows", content=row(0))  # makes the table
        assert first.status_code == 202, first.text
        began = perf_counter()
        await asyncio.gather(*(client(http) for _ in range(clients)))
        return len(rows) / (perf_counter() - began)


def start_worker(suite: Suite, folder: Path) -> subprocess.Popen[bytes]:
    """The stream worker with the environment of the suite's ingest."""
    pid = suite.pid("ingest")
    pairs = (item.partition(b"=") for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if item)
    environment = {name.decode(): value.decode() for name, _, value in pairs}
    environment |= {"INGEST_PORT": "0", "INGEST_MANAGEMENT_PORT": "0"}
    with (folder / "worker.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lakegate_ingest.streams"], env=environment, stdout=log, stderr=log
        )


async def committed(http: httpx.AsyncClient, table: str) -> int:
    answer = await http.get(f"/iceberg/v1/default/namespaces/bench/tables/{table}")
    metadata: dict[str, Any] = answer.json()["metadata"]
    current = [found for found in metadata["snapshots"] if found["snapshot-id"] == metadata["current-snapshot-id"]]
    return int(current[0]["summary"]["total-records"]) if current else 0


async def has(http: httpx.AsyncClient, table: str, rows: int) -> bool:
    return await committed(http, table) >= rows


async def placed(log: Path) -> bool:
    return b"stream_placed" in await asyncio.to_thread(log.read_bytes)


async def until(look: Callable[[], Awaitable[bool]], pause: float) -> None:
    while True:
        if await look():
            return
        await asyncio.sleep(pause)


async def drain(suite: Suite, folder: Path, rows: int) -> float:
    """Rows/s from Kafka to the table, from the first commit's begin: the worker's start is not counted."""
    headers = {"Authorization": f"Bearer {suite.key}"}
    async with httpx.AsyncClient(base_url=suite.url, headers=headers, timeout=60) as http:
        log = folder / "worker.log"
        await until(lambda: placed(log), 0.02)
        began = perf_counter()
        await until(lambda: has(http, "rows", rows), 0.2)
        return rows / (perf_counter() - began)


async def freshness(suite: Suite, seconds: float) -> list[float]:
    """Seconds from a row's request to its being in the table, as a reader of the catalog sees it; 20 rows a second."""
    headers = {"Authorization": f"Bearer {suite.key}"}
    sent: list[float] = []
    ages: list[float] = []
    async with httpx.AsyncClient(base_url=suite.url, headers=headers, timeout=60) as http:
        assert (await http.post("/v1/streams/bench/fresh", content=row(0))).status_code == 202
        await until(lambda: has(http, "fresh", 1), 0.1)

        async def produce() -> None:
            until = perf_counter() + seconds
            while perf_counter() < until:
                began = perf_counter()
                assert (await http.post("/v1/streams/bench/fresh", content=row(len(sent)))).status_code == 202
                sent.append(began)
                await asyncio.sleep(max(0.0, began + 0.05 - perf_counter()))

        producing = asyncio.create_task(produce())
        while not producing.done() or len(ages) < len(sent):
            there = await committed(http, "fresh") - 1
            now = perf_counter()
            ages += [now - at for at in sent[len(ages) : there]]
            await asyncio.sleep(0.1)
        await producing
    return sorted(ages)


async def run(options: argparse.Namespace, folder: Path, bootstrap: str) -> None:
    console = Console()
    rows = [row(number) for number in range(options.rows)]
    os.environ |= {f"{name}_KAFKA__BOOTSTRAP": bootstrap for name in ("CATALOG", "INGEST", "LINEAGE")}
    os.environ |= {"INGEST_STREAMS__WORKER": "false", "INGEST_STREAMS__COMMIT_SECONDS": str(COMMIT_SECONDS)}
    by_send, in_batches = await raw_produce(bootstrap, rows)
    worker = None
    with running(folder / "home") as suite:
        try:
            posted = await post_rows(suite, rows, options.clients)
            worker = await asyncio.to_thread(start_worker, suite, folder)
            drained = await drain(suite, folder, len(rows) + 1)
            ages = await freshness(suite, options.seconds)
        finally:
            if worker is not None:
                worker.terminate()
                worker.wait()
    table = Table(title=f"{len(rows):,} rows of {len(rows[0])} bytes, load average {os.getloadavg()[0]:.0f}")
    for column in ("", "rows/s", "to raw send", "to raw batches"):
        table.add_column(column, justify="right" if column else "left")
    for name, rate in (
        ("raw aiokafka, send", by_send),
        ("raw aiokafka, batches", in_batches),
        (f"HTTP to Kafka, {options.clients} clients", posted),
        ("Kafka to committed Iceberg", drained),
    ):
        table.add_row(name, f"{rate:,.0f}", f"{rate / by_send:.2f}", f"{rate / in_batches:.2f}")
    console.print(table)
    p50, p99 = ages[len(ages) // 2], ages[int(len(ages) * 0.99)]
    console.print(f"freshness of {len(ages):,} rows: p50 {p50:.1f} s, p99 {p99:.1f} s (T = {COMMIT_SECONDS:g} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    os.environ.setdefault("LAKEGATE_TEST_KAFKA_FAST", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        servers = Servers(folder, frozenset())
        try:
            asyncio.run(run(options, folder, servers.get("kafka", SOURCES).bootstrap))
        finally:
            servers.stop()


if __name__ == "__main__":
    main()
