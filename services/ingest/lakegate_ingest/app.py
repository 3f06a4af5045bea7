"""Ingest: files to Iceberg snapshots, bad rows to quarantine, and rows back out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from lakegate_chassis.app import service_app
from lakegate_chassis.postgres import ping
from lakegate_chassis.settings import load
from lakegate_ingest.loads.endpoints import router as loads
from lakegate_ingest.resources import Resources, open_resources
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.streams.endpoints import router as streams
from lakegate_ingest.tables.endpoints import router as tables
from lakegate_ingest.uploads.endpoints import router as uploads


def create_app(settings: IngestSettings | None = None, resources: Resources | None = None) -> FastAPI:
    """The ASGI app; `resources` that are passed in stay open, its own are opened and closed in lifespan."""
    settings = settings or load(IngestSettings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if resources is not None:
            app.state.resources = resources
            yield
            return
        async with open_resources(settings, app.state.turn) as opened:
            app.state.resources = opened
            # Not the catalog: without it loads are still received, and those that commit wait for it.
            app.state.health.add_checks({"postgres": lambda: ping(opened.pool)})
            yield

    app = service_app(service="ingest", title="Lakegate ingest", settings=settings, lifespan=lifespan)
    app.include_router(loads)
    app.include_router(tables)
    app.include_router(uploads)
    app.include_router(streams)
    return app
