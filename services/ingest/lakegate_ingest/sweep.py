"""`python -m lakegate_ingest.sweep`: retention, uploads that nobody loaded, files that loads and streams left; once.

Loads of dead processes are no part of it: those are taken over by processes that can run them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from lakegate_chassis.http import upstream_client
from lakegate_chassis.once import run_once, sweep_once
from lakegate_chassis.postgres import close_pool, open_pool
from lakegate_chassis.settings import load
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.committer import Committer
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.loading import open_remote_spool
from lakegate_ingest.loads.leftovers import Leftovers
from lakegate_ingest.resources import load_retention
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.uploads.service import Uploads


async def sweep(settings: IngestSettings) -> bool:
    pool = await open_pool(settings.postgres, "ingest")
    client = upstream_client("catalog", settings.catalog_url, timeout_seconds=settings.commit.timeout_seconds)
    exchange = upstream_client("gateway", settings.token_exchange_url)
    threads = ThreadPoolExecutor(1, "sweep")
    try:
        catalog = Catalog(
            client,
            TokenExchange(exchange, settings.token_exchange_url),
            timeout_seconds=settings.commit.timeout_seconds,
        )
        warehouse = Warehouse(settings.quarantine.location, settings.objects)
        remote = open_remote_spool(settings, warehouse)
        leftovers = Leftovers(pool, Committer(catalog, settings.commit, warehouse), warehouse, remote)
        uploads = Uploads(pool, warehouse, settings.upload, settings.body, threads)
        sweeps: dict[str, Callable[[], Awaitable[object]]] = {
            "retention": load_retention(settings, pool, warehouse).prune,
            "leftovers": leftovers.clean_all_due,
            "stray-copies": leftovers.remove_stray_copies,
            "uploads": uploads.sweep_all,
            "stray-uploads": uploads.remove_strays,
        }
        if settings.kafka.bootstrap is not None:
            # a suite without Kafka need not pay for the import of what streams take
            from lakegate_ingest.streams.commits import StreamCommitter
            from lakegate_ingest.streams.sweeping import Sweep

            committer = StreamCommitter(catalog, pool, settings.commit, warehouse)
            sweeps["streams"] = Sweep(pool, committer, warehouse, age_seconds=settings.streams.orphan_seconds).once
        return await sweep_once(sweeps, settings.consumers)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        await client.aclose()
        await exchange.aclose()
        await close_pool(pool)


def main() -> None:
    settings = load(IngestSettings)
    run_once("ingest", settings, lambda: sweep(settings))


if __name__ == "__main__":
    main()
