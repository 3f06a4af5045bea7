"""The lineage service's application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from lakegate_chassis.app import service_app
from lakegate_chassis.postgres import ping
from lakegate_chassis.settings import load
from lakegate_lineage.columns import endpoints as columns
from lakegate_lineage.datasets import endpoints as datasets
from lakegate_lineage.eventlog import endpoints as eventlog
from lakegate_lineage.events import endpoints as events
from lakegate_lineage.graph import endpoints as graph
from lakegate_lineage.jobs import endpoints as jobs
from lakegate_lineage.resources import Resources, open_resources
from lakegate_lineage.runs import endpoints as runs
from lakegate_lineage.settings import LineageSettings


def create_app(settings: LineageSettings | None = None, resources: Resources | None = None) -> FastAPI:
    """The app; `resources` that are passed are used as they are and left open."""
    settings = settings or load(LineageSettings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if resources is not None:
            app.state.resources = resources
            yield
            return
        async with open_resources(settings, app.state.turn) as opened:
            app.state.resources = opened
            app.state.health.add_checks({"postgres": partial(ping, opened.pool)})
            yield

    app = service_app(service="lineage", title="Lakegate lineage", settings=settings, lifespan=lifespan)
    if resources is not None:
        app.state.resources = resources
    for noun in (events, graph, runs, jobs, datasets, columns, eventlog):
        app.include_router(noun.router)
    return app
