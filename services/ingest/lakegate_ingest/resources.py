"""What ingest holds open: pools, clients, threads and the loads it works on; opened and closed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import open_event_log
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.http import upstream_client
from lakegate_chassis.postgres import close_pool, connection, open_pool
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.committer import Committer
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.copies import Copies
from lakegate_ingest.loads.following import Followers
from lakegate_ingest.loads.jobs import Jobs
from lakegate_ingest.loads.leftovers import Leftovers
from lakegate_ingest.loads.live import LiveLoads
from lakegate_ingest.loads.outcome import Outcomes
from lakegate_ingest.loads.pipeline import Pipeline
from lakegate_ingest.loads.reading import Reader
from lakegate_ingest.loads.recovery import Recovery, SpoolOwner
from lakegate_ingest.loads.retention import LoadRetention
from lakegate_ingest.loads.service import LoadService
from lakegate_ingest.loads.sources import Sources
from lakegate_ingest.metrics import QUEUED, RECEIVING, RUNNING, SPOOL_BYTES, SPOOL_MAX
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.remote import RemoteSpool
from lakegate_ingest.tables.service import RowService
from lakegate_ingest.uploads.service import Uploads

if TYPE_CHECKING:
    from lakegate_ingest.streams.resources import Front

SPOOL_THREADS = 4
STOP_SECONDS = 8.0


@dataclass(frozen=True)
class Resources:
    settings: IngestSettings
    pool: asyncpg.Pool
    catalog: Catalog
    warehouse: Warehouse
    loads: LoadService
    followers: Followers
    rows: RowService
    recovery: Recovery
    uploads: Uploads
    streams: Front | None


@asynccontextmanager
async def open_resources(settings: IngestSettings, turn: Turn) -> AsyncIterator[Resources]:
    """Open everything, take over what a dead process left, and start the workers; `turn` says when to read streams.

    Raises SpoolInUse.
    """
    spool = await asyncio.to_thread(Spool, settings.spool.dir, settings.spool.quota_bytes)
    owner = SpoolOwner(settings.spool.dir)
    pool = await open_pool(settings.postgres, "ingest")
    client = upstream_client("catalog", settings.catalog_url, timeout_seconds=settings.commit.timeout_seconds)
    exchange = upstream_client("gateway", settings.token_exchange_url)
    background = Background()
    event_log = open_event_log(pool, settings.kafka, background)
    engine_threads = ThreadPoolExecutor(settings.job.workers, "engine")
    spool_threads = ThreadPoolExecutor(SPOOL_THREADS, "spool")
    live = LiveLoads(settings.job.workers + settings.job.queue)
    tokens = TokenExchange(exchange, settings.token_exchange_url)
    catalog = Catalog(client, tokens, timeout_seconds=settings.commit.timeout_seconds)
    warehouse = Warehouse(settings.quarantine.location, settings.objects)
    remote = RemoteSpool(warehouse.store) if warehouse.store is not None else None
    copies = Copies(remote, spool, settings.spool.remote_bytes)
    uploads = Uploads(pool, warehouse, settings.upload, settings.body, spool_threads)
    sources = Sources(pool, uploads, spool, settings.body, spool_threads)
    committer = Committer(catalog, settings.commit, warehouse)
    outcomes = Outcomes(pool, event_log, cleanup_seconds=settings.commit.orphan_age_seconds)
    reader = Reader(engine_threads, settings.engine, workers=settings.job.workers)
    pipeline = Pipeline(
        pool=pool, spool=spool, catalog=catalog, committer=committer, outcomes=outcomes, settings=settings,
        reader=reader, owner=owner.owner, warehouse=warehouse, copies=copies, sources=sources, uploads=uploads,
    )  # fmt: skip
    jobs = Jobs(
        pool=pool, pipeline=pipeline, outcomes=outcomes, live=live, spool=spool, workers=settings.job.workers,
        retry_seconds=min(settings.job.sweep_seconds, 5.0), owner=owner.owner, copies=copies,
    )  # fmt: skip
    recovery = Recovery(
        pool=pool, spool=spool, live=live, jobs=jobs, outcomes=outcomes, committer=committer,
        settings=settings.job, owner=owner,
    )  # fmt: skip
    loads = LoadService(
        pool=pool, pipeline=pipeline, spool=spool, live=live, jobs=jobs, outcomes=outcomes, settings=settings,
        executor=spool_threads, owner=owner.owner, copies=copies, uploads=uploads,
    )  # fmt: skip
    _watch(live, spool)
    stack = AsyncExitStack()
    try:
        await recovery.at_start()
        jobs.start(background)
        background.start("heartbeat", recovery.beat)
        background.start("sweep", recovery.sweep)
        if settings.sweeps_in_process:
            leftovers = Leftovers(pool, committer, warehouse, remote)
            background.start("leftovers", lambda: leftovers.run(settings.job.sweep_seconds))
            background.start("retention", load_retention(settings, pool, warehouse).run)
            if remote is not None:
                background.start("uploads", lambda: uploads.sweep(settings.job.sweep_seconds))
        streams = None
        if settings.kafka.bootstrap is not None:
            # a suite without Kafka need not pay for the import of its client
            from lakegate_ingest.streams.resources import open_front, open_worker

            streams = await stack.enter_async_context(open_front(settings, pool, catalog, tokens, background))
            if settings.streams.worker:
                await stack.enter_async_context(
                    open_worker(settings, pool, catalog, tokens, event_log, warehouse, background, turn)
                )
        yield Resources(
            settings=settings, pool=pool, catalog=catalog, warehouse=warehouse, loads=loads,
            followers=Followers(settings.job), rows=RowService(catalog, settings.rows, warehouse),
            recovery=recovery, uploads=uploads, streams=streams,
        )  # fmt: skip
    finally:
        # What still runs is left to whoever comes next: its lease is let go, its spool stays.
        live.cancel_all()
        await background.stop(STOP_SECONDS)
        await stack.aclose()
        engine_threads.shutdown(wait=False, cancel_futures=True)
        spool_threads.shutdown(wait=False, cancel_futures=True)
        copies.close()
        async with connection(pool) as acquired:
            await queries.release_leases(acquired, owner.owner)
        await client.aclose()
        await exchange.aclose()
        await close_pool(pool)
        owner.release()


def load_retention(settings: IngestSettings, pool: asyncpg.Pool, warehouse: Warehouse) -> LoadRetention:
    return LoadRetention(pool, warehouse, keep=timedelta(days=settings.retention.load_days))


def _watch(live: LiveLoads, spool: Spool) -> None:
    RECEIVING.set_function(lambda: live.in_state("receiving"))
    QUEUED.set_function(lambda: live.in_state("queued"))
    RUNNING.set_function(lambda: live.in_state("reading", "committing"))
    SPOOL_BYTES.set_function(lambda: spool.used_bytes)
    SPOOL_MAX.set(spool.quota_bytes)
