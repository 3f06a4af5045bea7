"""What the two halves of streams hold open, opened and closed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import EventLog
from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.health import Check
from lakegate_ingest import engine
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.metrics import STREAM_SOCKETS
from lakegate_ingest.places import Places
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.streams.commits import StreamCommitter
from lakegate_ingest.streams.door import Door
from lakegate_ingest.streams.gauges import Gauges
from lakegate_ingest.streams.grants import Grants
from lakegate_ingest.streams.lineage import StreamLineage
from lakegate_ingest.streams.producer import StreamProducer
from lakegate_ingest.streams.pump import Pump
from lakegate_ingest.streams.repeats import Repeats
from lakegate_ingest.streams.rooms import Rooms
from lakegate_ingest.streams.scratch import Scratch
from lakegate_ingest.streams.service import StreamService
from lakegate_ingest.streams.states import States
from lakegate_ingest.streams.sweeping import Sweep
from lakegate_ingest.streams.tables import Tables
from lakegate_ingest.streams.tails import Tails
from lakegate_ingest.streams.transactions import Transactions
from lakegate_ingest.streams.worker import StreamWorker


@dataclass(frozen=True)
class Front:
    """What the API needs."""

    service: StreamService
    states: States
    tails: Tails
    sockets: Places


@asynccontextmanager
async def open_front(
    settings: IngestSettings,
    pool: asyncpg.Pool,
    catalog: Catalog,
    exchange: TokenExchange,
    background: Background,
) -> AsyncIterator[Front]:
    """The half that takes rows; its producer runs under `background`."""
    own = settings.streams
    connections = Connections(settings.kafka)
    scratch = await asyncio.to_thread(Scratch, settings.spool.dir)
    threads = ThreadPoolExecutor(own.judges, "stream-judge")
    producer = StreamProducer(connections, ack_seconds=own.ack_seconds)
    transactions = Transactions(connections, most=own.transactions, ack_seconds=own.ack_seconds)
    # to judge the rows, to wait for a place, and to send them
    repeats = Repeats(pool, transactions, lease_seconds=30 + 4 * own.ack_seconds, hours=settings.job.idempotency_hours)
    service = StreamService(
        pool=pool,
        tables=Tables(catalog, schema_seconds=own.schema_seconds),
        door=Door(threads, scratch, judges=own.judges),
        producer=producer,
        rooms=Rooms(most_bytes=own.max_in_flight_bytes, most_bytes_per_tenant=own.max_in_flight_bytes_per_tenant),
        repeats=repeats,
        exchange=exchange,
        settings=own,
    )
    background.start("stream-producer", producer.keep)
    background.start("stream-requests", repeats.keep_pruning)
    try:
        yield Front(
            service=service,
            states=States(pool, catalog, connections, producer, group=own.group),
            tails=Tails(pool, connections, producer, own),
            sockets=Places(own.max_sockets, own.max_sockets_per_tenant, STREAM_SOCKETS, kind="WebSocket producers"),
        )
    finally:
        await transactions.close()
        threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(scratch.close)


@asynccontextmanager
async def open_worker(
    settings: IngestSettings,
    pool: asyncpg.Pool,
    catalog: Catalog,
    exchange: TokenExchange,
    event_log: EventLog,
    warehouse: Warehouse,
    background: Background,
    turn: Turn,
) -> AsyncIterator[dict[str, Check]]:
    """The half that commits, under `background` and in turn; stop that before this is left. Gives what it can't do
    without, for /readyz of a process that does nothing else.
    """
    own = settings.streams
    connections = Connections(settings.kafka)
    scratch = await asyncio.to_thread(Scratch, settings.spool.dir)
    threads = ThreadPoolExecutor(own.commits_at_once, "stream-commit")
    producer = StreamProducer(connections, ack_seconds=own.ack_seconds)
    committer = StreamCommitter(catalog, pool, settings.commit, warehouse)
    pump = Pump(
        pool=pool,
        committer=committer,
        producer=producer,
        lineage=StreamLineage(
            pool, event_log, bootstrap=settings.kafka.bootstrap or "", every_seconds=own.lineage_seconds
        ),
        grants=Grants(pool, exchange),
        executor=threads,
        scratch=scratch,
        settings=own,
        limits=engine.EngineLimits(memory_bytes=settings.engine.memory_bytes, threads=settings.engine.threads),
    )
    worker = StreamWorker(
        pool=pool, connections=connections, pump=pump, settings=own,
        gauges=Gauges(named=own.named_streams, every_seconds=own.lag_seconds),
    )  # fmt: skip
    background.start("stream-rejects", producer.keep)
    background.start("stream-worker", turn.taking("streams", worker.run))
    if settings.sweeps_in_process:
        background.start("stream-sweep", Sweep(pool, committer, warehouse, age_seconds=own.orphan_seconds).run)
    try:
        yield {"kafka": producer.check, "streams": worker.check}
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(scratch.close)
