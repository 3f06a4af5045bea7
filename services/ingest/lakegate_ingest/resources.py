"""What ingest holds open: pools, clients, threads and the loads it works on; opened and closed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import open_event_log
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.postgres import close_pool, connection, open_pool
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.downloads import Downloads
from lakegate_ingest.loading import Loading, open_loading
from lakegate_ingest.loads import queries
from lakegate_ingest.loads.following import Followers
from lakegate_ingest.loads.leftovers import Leftovers
from lakegate_ingest.loads.live import LiveLoads
from lakegate_ingest.loads.recovery import Recovery, SpoolOwner
from lakegate_ingest.loads.retention import LoadRetention
from lakegate_ingest.loads.service import LoadService
from lakegate_ingest.metrics import QUEUED, RECEIVING, RUNNING, SPOOL_BYTES, SPOOL_MAX, SPOOL_REUSABLE
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.tables.service import RowService
from lakegate_ingest.uploads.service import Uploads
from lakegate_ingest.workers.delegation import Delegation
from lakegate_ingest.workers.port import Launcher
from lakegate_ingest.workers.processes import Processes

if TYPE_CHECKING:
    from lakegate_ingest.streams.resources import Front

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
    downloads: Downloads
    recovery: Recovery
    uploads: Uploads
    streams: Front | None


@asynccontextmanager
async def open_resources(settings: IngestSettings, turn: Turn) -> AsyncIterator[Resources]:
    """Open everything, take over what a dead process left, and start the workers; `turn` says when to read streams.

    Raises SpoolInUse.
    """
    sizes = (settings.spool.quota_bytes, settings.spool.reuse_bytes)
    spool = await asyncio.to_thread(Spool, settings.spool.dir, *sizes)
    owner = SpoolOwner(settings.spool.dir)
    await asyncio.to_thread(spool.reuse.forget_former)
    pool = await open_pool(settings.postgres, "ingest")
    background = Background()
    event_log = open_event_log(pool, settings.kafka, background)
    launcher = open_launcher(settings)
    delegation = None
    if launcher is not None:
        delegation = Delegation(pool, launcher, owner=owner.owner, settings=settings.worker, job=settings.job)
    stack = AsyncExitStack()
    loading = await stack.enter_async_context(open_loading(settings, pool, event_log, spool, owner.owner, delegation))
    live, jobs, catalog, warehouse = loading.live, loading.jobs, loading.catalog, loading.warehouse
    recovery = Recovery(
        pool=pool, spool=spool, live=live, jobs=jobs, outcomes=loading.outcomes, committer=loading.committer,
        settings=settings.job, owner=owner,
    )  # fmt: skip
    loads = LoadService(
        pool=pool, pipeline=loading.pipeline, spool=spool, live=live, jobs=jobs, outcomes=loading.outcomes,
        settings=settings, executor=loading.spool_threads, owner=owner.owner, copies=loading.copies,
        uploads=loading.uploads,
    )  # fmt: skip
    _watch(live, spool)
    try:
        await recovery.at_start()
        jobs.start(background)
        background.start("heartbeat", recovery.beat)
        background.start("sweep", recovery.sweep)
        if settings.sweeps_in_process:
            _start_sweeps(settings, pool, loading, background)
        streams = None
        if settings.kafka.bootstrap is not None:
            # a suite without Kafka need not pay for the import of its client
            from lakegate_ingest.streams.resources import open_front, open_worker

            streams = await stack.enter_async_context(open_front(settings, pool, catalog, loading.tokens, background))
            if settings.streams.worker:
                await stack.enter_async_context(
                    open_worker(settings, pool, catalog, loading.tokens, event_log, warehouse, background, turn)
                )
        downloads = Downloads(settings.rows)
        yield Resources(
            settings=settings, pool=pool, catalog=catalog, warehouse=warehouse, loads=loads,
            followers=Followers(settings.job), rows=RowService(catalog, settings.rows, warehouse, downloads),
            downloads=downloads, recovery=recovery, uploads=loading.uploads, streams=streams,
        )  # fmt: skip
    finally:
        # What still runs is left to whoever comes next: its lease is let go, its spool stays.
        live.cancel_all()
        await background.stop(STOP_SECONDS)
        if launcher is not None:
            await launcher.close()
        await stack.aclose()
        async with connection(pool) as acquired:
            await queries.release_leases(acquired, owner.owner)
        await close_pool(pool)
        owner.release()


def _start_sweeps(settings: IngestSettings, pool: asyncpg.Pool, loading: Loading, background: Background) -> None:
    """Delete what is over: files of failed loads, old loads, uploads that nobody loaded."""
    leftovers = Leftovers(pool, loading.committer, loading.warehouse, loading.remote)
    background.start("leftovers", lambda: leftovers.run(settings.job.sweep_seconds))
    background.start("retention", load_retention(settings, pool, loading.warehouse).run)
    if loading.warehouse.store is not None:
        background.start("uploads", lambda: loading.uploads.sweep(settings.job.sweep_seconds))


def open_launcher(settings: IngestSettings) -> Launcher | None:
    match settings.worker.mode:
        case "subprocess":
            return Processes(settings)
        case "kubernetes":
            # what speaks to an API server is not needed elsewhere
            from lakegate_ingest.workers.kubernetes import KubernetesJobs

            return KubernetesJobs(settings.worker)
        case "off":
            return None


def load_retention(settings: IngestSettings, pool: asyncpg.Pool, warehouse: Warehouse) -> LoadRetention:
    return LoadRetention(pool, warehouse, keep=timedelta(days=settings.retention.load_days))


def _watch(live: LiveLoads, spool: Spool) -> None:
    RECEIVING.set_function(lambda: live.in_state("receiving"))
    QUEUED.set_function(lambda: live.in_state("queued"))
    RUNNING.set_function(lambda: live.in_state("reading", "committing"))
    SPOOL_BYTES.set_function(lambda: spool.used_bytes)
    SPOOL_REUSABLE.set_function(lambda: spool.reuse.kept_bytes)
    SPOOL_MAX.set(spool.quota_bytes)
