"""What it takes to run loads, in the process that serves the API and in a worker alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from lakegate_chassis.eventlog import EventLog
from lakegate_chassis.http import upstream_client
from lakegate_chassis.objectstore import open_store
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.committer import Committer
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.loads.copies import Copies
from lakegate_ingest.loads.jobs import Jobs
from lakegate_ingest.loads.live import LiveLoads
from lakegate_ingest.loads.outcome import Outcomes
from lakegate_ingest.loads.pipeline import Pipeline
from lakegate_ingest.loads.reading import Reader
from lakegate_ingest.loads.sources import Sources
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.remote import RemoteSpool
from lakegate_ingest.uploads.service import Uploads
from lakegate_ingest.workers.delegation import Delegation

SPOOL_THREADS = 4


@dataclass(frozen=True)
class Loading:
    """`remote` is None where no other machine could read a spooled file."""

    tokens: TokenExchange
    catalog: Catalog
    warehouse: Warehouse
    remote: RemoteSpool | None
    copies: Copies
    uploads: Uploads
    committer: Committer
    outcomes: Outcomes
    live: LiveLoads
    pipeline: Pipeline
    jobs: Jobs
    spool_threads: Executor


def open_remote_spool(settings: IngestSettings, warehouse: Warehouse) -> RemoteSpool | None:
    """In the warehouse's object store; for Kubernetes Jobs in its folder, too, which is on a volume that all share."""
    if warehouse.store is not None:
        return RemoteSpool(warehouse.store)
    if settings.worker.mode == "kubernetes":
        return RemoteSpool(open_store(warehouse.location, settings.objects))
    return None


@asynccontextmanager
async def open_loading(
    settings: IngestSettings,
    pool: asyncpg.Pool,
    event_log: EventLog,
    spool: Spool,
    owner: str,
    delegation: Delegation | None = None,
    gives_way: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Loading]:
    """`owner` is this process, as leases name it. What runs under `jobs` has to be stopped before this is left.

    `gives_way`: whether a load that can't go on here is let go, for others to take, in place of being tried again.
    """
    client = upstream_client("catalog", settings.catalog_url, timeout_seconds=settings.commit.timeout_seconds)
    exchange = upstream_client("gateway", settings.token_exchange_url)
    engine_threads = ThreadPoolExecutor(settings.job.workers, "engine")
    spool_threads = ThreadPoolExecutor(SPOOL_THREADS, "spool")
    live = LiveLoads(settings.job.workers + settings.job.queue)
    tokens = TokenExchange(exchange, settings.token_exchange_url)
    catalog = Catalog(client, tokens, timeout_seconds=settings.commit.timeout_seconds)
    warehouse = Warehouse(settings.quarantine.location, settings.objects)
    remote = open_remote_spool(settings, warehouse)
    copies = Copies(remote, spool, settings.spool.remote_bytes)
    uploads = Uploads(pool, warehouse, settings.upload, settings.body, spool_threads)
    committer = Committer(catalog, settings.commit, warehouse)
    outcomes = Outcomes(pool, event_log, cleanup_seconds=settings.commit.orphan_age_seconds)
    pipeline = Pipeline(
        pool=pool, spool=spool, catalog=catalog, committer=committer, outcomes=outcomes, settings=settings,
        reader=Reader(engine_threads, settings.engine, workers=settings.job.workers), owner=owner,
        warehouse=warehouse, copies=copies, sources=Sources(pool, uploads, spool, settings.body, spool_threads),
        uploads=uploads,
    )  # fmt: skip
    jobs = Jobs(
        pool=pool, pipeline=pipeline, outcomes=outcomes, live=live, spool=spool, workers=settings.job.workers,
        retry_seconds=min(settings.job.sweep_seconds, 5.0), owner=owner, copies=copies, delegation=delegation,
        gives_way=gives_way,
    )  # fmt: skip
    try:
        yield Loading(
            tokens=tokens, catalog=catalog, warehouse=warehouse, remote=remote, copies=copies, uploads=uploads,
            committer=committer, outcomes=outcomes, live=live, pipeline=pipeline, jobs=jobs,
            spool_threads=spool_threads,
        )  # fmt: skip
    finally:
        engine_threads.shutdown(wait=False, cancel_futures=True)
        spool_threads.shutdown(wait=False, cancel_futures=True)
        copies.close()
        await client.aclose()
        await exchange.aclose()
