"""The catalog's application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from lakegate_catalog.datasets.endpoints import router as datasets
from lakegate_catalog.files.endpoints import routes as files
from lakegate_catalog.iceberg.dialect import by_path
from lakegate_catalog.iceberg.document import describe
from lakegate_catalog.iceberg.endpoints import routes as iceberg
from lakegate_catalog.resources import Resources, open_resources
from lakegate_catalog.search.endpoints import router as search
from lakegate_catalog.settings import CatalogSettings
from lakegate_chassis.app import service_app


def create_app(settings: CatalogSettings, resources: Resources | None = None) -> FastAPI:
    """The app; it opens its own resources unless some are given."""

    def use(app: FastAPI, opened: Resources) -> None:
        app.state.resources = opened
        app.state.health.add_checks(opened.checks)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if resources is not None:
            yield
            return
        async with open_resources(settings) as opened:
            use(app, opened)
            yield

    app = service_app(
        service="catalog", title="Lakegate catalog", settings=settings, lifespan=lifespan, dialect=by_path
    )
    describe(app)
    app.include_router(datasets)
    app.include_router(search)
    app.router.routes.extend(iceberg())
    app.router.routes.extend(files())
    if resources is not None:
        use(app, resources)
    return app
