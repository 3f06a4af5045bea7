"""What `bench.rollout` runs as blue and green when the suite itself is not installed.

The chassis, an echo, and answers to what a rollout reads.

Start, drain, readiness, management listener and consumers are the chassis', as in every service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from pydantic import Field, SecretStr

from lakegate_chassis.app import service_app
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.server import run
from lakegate_chassis.settings import ConsumerSettings, PostgresSettings, ServiceSettings, load, settings_config


class StandinSettings(ServiceSettings):
    model_config = settings_config("STANDIN_")

    port: int = Field(default=8080)
    management_port: int = Field(default=9080)
    postgres: PostgresSettings = PostgresSettings(url=SecretStr("postgresql://unused"))
    consumers: ConsumerSettings = ConsumerSettings()
    reader_key: SecretStr = Field(description="whoever has it is answered")


def create_app(settings: StandinSettings) -> FastAPI:
    turn = Turn(settings.consumers)

    async def consume() -> None:
        await asyncio.Event().wait()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        background = Background()
        background.start("consumer", turn.taking("standin", consume))
        yield
        await background.stop()

    app = service_app(service="gateway", title="Stand-in", settings=settings, lifespan=lifespan)
    app.state.turn = turn

    @app.get("/v1/echo")
    async def echo() -> dict[str, str | None]:
        return {"colour": settings.consumers.colour}

    async def read(request: Request, limit: int) -> Response:
        wanted = f"Bearer {settings.reader_key.get_secret_value()}"
        return Response(status_code=200 if request.headers.get("authorization") == wanted else 401)

    # datasets and search are the catalog's, loads ingest's, runs and jobs lineage's
    for name in ("datasets", "search", "loads", "runs", "jobs"):
        app.get(f"/v1/{name}")(read)

    return app


if __name__ == "__main__":
    chosen = load(StandinSettings)
    run("gateway", chosen, create_app(chosen))
