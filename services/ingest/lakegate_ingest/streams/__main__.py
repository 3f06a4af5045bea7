"""`python -m lakegate_ingest.streams`: commit streams to tables, with the settings of ingest; no API but health.

Run several for more throughput; set INGEST_STREAMS__WORKER=false where the API should not do it, too.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from lakegate_chassis.app import service_app
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import open_event_log
from lakegate_chassis.http import upstream_client
from lakegate_chassis.postgres import close_pool, open_pool, ping
from lakegate_chassis.server import run
from lakegate_chassis.settings import EX_CONFIG, load
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.streams.resources import open_worker

# A commit that is under way may end.
STOP_SECONDS = 15.0


def create_app(settings: IngestSettings) -> FastAPI:
    """The worker as an app whose only paths are those of health."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await open_pool(settings.postgres, "ingest")
        client = upstream_client("catalog", settings.catalog_url, timeout_seconds=settings.commit.timeout_seconds)
        gateway = upstream_client("gateway", settings.token_exchange_url)
        background = Background()
        exchange = TokenExchange(gateway, settings.token_exchange_url)
        catalog = Catalog(client, exchange, timeout_seconds=settings.commit.timeout_seconds)
        try:
            event_log = open_event_log(pool, settings.kafka, background)
            warehouse = Warehouse(settings.quarantine.location, settings.objects)
            async with open_worker(
                settings, pool, catalog, exchange, event_log, warehouse, background, app.state.turn
            ) as checks:
                app.state.health.add_checks({"postgres": lambda: ping(pool), **checks})
                yield
                await background.stop(STOP_SECONDS)
        finally:
            await background.stop(STOP_SECONDS)
            await client.aclose()
            await gateway.aclose()
            await close_pool(pool)

    return service_app(service="ingest", title="Lakegate stream worker", settings=settings, lifespan=lifespan)


def main() -> None:
    settings = load(IngestSettings)
    if settings.kafka.bootstrap is None:
        print("setting INGEST_KAFKA__BOOTSTRAP: the stream worker needs Kafka", file=sys.stderr)  # noqa: T201
        sys.exit(EX_CONFIG)
    run("ingest", settings, create_app(settings))


if __name__ == "__main__":
    main()
