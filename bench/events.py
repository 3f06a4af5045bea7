"""What the relay to Kafka costs a write, how fast it drains a backlog, and raw aiokafka with the same records.

python -m bench.events [--backlog 100000] [--seconds 4]

PostgreSQL and Kafka are its own: the server in the wheel, and Apache's broker by Maven (or LAKEGATE_TEST_KAFKA).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Event, make_event
from lakegate_chassis.eventlog.kafka import KafkaEventLog
from lakegate_chassis.eventlog.kafka.records import to_record
from lakegate_chassis.eventlog.kafka.relay import GROUP as RELAY
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.provision import provision
from lakegate_chassis.settings import KafkaSettings, PostgresSettings
from lakegate_contracts.events import DATASETS, RunEventObserved

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers import Servers
from servers.kafka import SOURCES

ROUNDS = 5
WRITES_PER_SECOND = 200
TEXT = "a run event of about a kilobyte is what a load publishes " * 16


def event(number: int) -> Event:
    data = RunEventObserved(event={"number": number, "text": TEXT})
    return make_event(data, key=f"travel.table_{number % 500}", tenant="default", source="bench")


async def write_for(pool: asyncpg.Pool, log: KafkaEventLog, seconds: float) -> list[float]:
    """Milliseconds of each write: one transaction with a row of its own and its event, 200 a second."""
    took: list[float] = []
    first = perf_counter()
    while perf_counter() < first + seconds:
        await asyncio.sleep(max(0.0, first + len(took) / WRITES_PER_SECOND - perf_counter()))
        began = perf_counter()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO bench_rows VALUES ($1, $2)", uuid4(), TEXT)
            await log.publish(connection, event(len(took)))
        took.append((perf_counter() - began) * 1000)
    return took


async def follow(log: KafkaEventLog) -> None:
    """A reader by position, as every catalog process has one, with Kafka or without: it numbers the events."""
    async for _ in log.read([DATASETS], await log.head()):
        pass


async def drained(log: KafkaEventLog, head: int) -> None:
    """Until the relay has stored that everything up to `head` is acknowledged."""
    while True:
        positions = [state.position for state in await log._outbox.groups() if state.group == RELAY]
        if positions and positions[0] >= head:
            return
        await asyncio.sleep(0.02)


async def cost_of_a_write(pool: asyncpg.Pool, log: KafkaEventLog, seconds: float) -> tuple[float, float]:
    """Mean milliseconds without and with the relay in the same process, from alternating rounds."""
    without, beside = [], []
    reading = Background()
    reading.start("reader", lambda: follow(log))
    for _ in range(ROUNDS):
        without += await write_for(pool, log, seconds / 2)
        background = Background()
        background.start("relay", log.relay.run)
        await drained(log, await log.head())
        beside += await write_for(pool, log, seconds / 2)
        await background.stop()
    await reading.stop()
    return statistics.fmean(without), statistics.fmean(beside)


async def drain(pool: asyncpg.Pool, log: KafkaEventLog, backlog: int) -> float:
    """Events a second from a cold relay to the last acknowledgement."""
    for first in range(0, backlog, 1000):
        async with pool.acquire() as connection, connection.transaction():
            await log.publish(connection, *(event(first + number) for number in range(1000)))
    background = Background()
    began = perf_counter()
    background.start("relay", log.relay.run)
    # numbering the events is the relay's work as well: it is not asked for before
    await asyncio.sleep(0.5)
    await drained(log, await log.head())
    rate = backlog / (perf_counter() - began)
    await background.stop()
    return rate


async def raw(bootstrap: str, topic: str, count: int) -> float:
    """The same records by aiokafka alone: encoded before, idempotent, acknowledged by all."""
    records = [to_record(event(number)) for number in range(count)]
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5, max_batch_size=1 << 20
    ) as producer:
        began = perf_counter()
        sent = [await producer.send(topic, record.value, key=record.key, headers=record.headers) for record in records]
        await asyncio.gather(*sent)
        return count / (perf_counter() - began)


async def main(backlog: int, seconds: float) -> None:
    os.environ.setdefault("LAKEGATE_TEST_KAFKA_FAST", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        servers = Servers(folder / "servers")
        postgres = EmbeddedPostgres(folder / "postgres")
        try:
            kafka = servers.get("kafka", SOURCES)
            admin_url = await asyncio.to_thread(postgres.start)
            urls = await provision(admin_url, {"lineage": "bench"})
            owner = await asyncpg.connect(admin_url.rpartition("/")[0] + "/lakegate")
            await owner.execute("CREATE TABLE lineage.bench_rows (id uuid, text text)")
            await owner.execute("GRANT ALL ON lineage.bench_rows TO lakegate_lineage")
            await owner.close()
            pool = await open_pool(PostgresSettings(url=SecretStr(urls["lineage"])), "lineage")
            log = KafkaEventLog(pool, KafkaSettings(bootstrap=kafka.bootstrap))
            without, beside = await cost_of_a_write(pool, log, seconds)
            rate = await drain(pool, log, backlog)
            alone = await raw(kafka.bootstrap, event(0).topic, min(backlog, 50_000))
            await pool.close()
        finally:
            await asyncio.to_thread(postgres.stop)
            servers.stop()
    table = Table("what", "measured", "wanted", title="Outbox to Kafka, events of 1 KB")
    table.add_row("a write, relay off, mean", f"{without:.2f} ms", "")
    table.add_row("a write, relay on, mean", f"{beside:.2f} ms", "")
    table.add_row("the relay costs", f"{(beside / without - 1) * 100:+.1f} %", "< 15 %")
    table.add_row(f"drain of {backlog:,}", f"{rate:,.0f} events/s", "> 5,000")
    table.add_row("aiokafka alone, same records", f"{alone:,.0f} records/s", "")
    table.add_row("drain / aiokafka alone", f"{rate / alone:.2f}", "")
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=4)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.backlog, arguments.seconds))
