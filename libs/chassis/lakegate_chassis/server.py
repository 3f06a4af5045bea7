"""Run a service: its API, its management listener, and an end that loses no request."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from ipaddress import ip_address
from typing import Annotated, cast

import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Header, HTTPException, Request, Response
from prometheus_client import REGISTRY, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from starlette.types import ASGIApp

from lakegate_chassis import logs, tracing
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog.turn import Turn, turn_routes
from lakegate_chassis.health import Health
from lakegate_chassis.logs import log
from lakegate_chassis.metrics import LOOP_LAG
from lakegate_chassis.problems import Forbidden, install_problem_handlers
from lakegate_chassis.protocol import ServerProtocol
from lakegate_chassis.settings import ServiceSettings

WATCH_SECONDS = 0.5


class LogLevel(BaseModel):
    level: str


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: `run` decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(service: str, settings: ServiceSettings, app: ASGIApp, management: APIRouter | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `app.state.health` is told to drain; `management` adds private routes."""
    logs.configure(settings, service)
    # shells often allow 1,024 files where the system allows many more; each connection is one
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # in OpenMetrics each series would have a second one that tells when it was made
    disable_created_metrics()  # type: ignore[no-untyped-call]
    provider = tracing.configure(settings, service, version(f"lakegate-{service}"))
    # what is loaded by now stays: the collector need not look through it again, nor after every 700 objects that a
    # few requests leave (13 of 100 microseconds a request at the gateway)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            ok = runner.run(_serve(service, settings, app, management))
    finally:
        if provider is not None:
            provider.shutdown()
    sys.exit(0 if ok else 1)


async def _serve(service: str, settings: ServiceSettings, app: ASGIApp, management: APIRouter | None) -> bool:
    """Until told to end; whether the API ever began to serve."""
    health = cast(Health, app.state.health)  # type: ignore[attr-defined]
    turn = getattr(app.state, "turn", None)  # type: ignore[attr-defined]
    api = _api(settings, app)
    private = _private(settings, management_app(management, turn))
    _drain_on_signals(api, settings, health)
    background = Background()
    background.start("watch-event-loop", _watch_loop)
    management_task = asyncio.create_task(_serve_management(private))
    log.info("starting", host=settings.host, port=settings.port, management_port=settings.management_port)
    try:
        await api.serve()
    except SystemExit:
        # uvicorn exits so when the port is taken; it has logged why
        return False
    finally:
        private.should_exit = True
        await management_task
        await background.stop()
    log.info("stopped")
    return api.started


def _api(settings: ServiceSettings, app: ASGIApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=ServerProtocol,
            # X-Forwarded-For would be believed from every local process, and read for each request
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=settings.finish_seconds,
            ws_max_size=1 << 20,
            # what is read at once, some 256 KB, could be a quarter of a gigabyte of messages
            ws_per_message_deflate=False,
        )
    )


def _private(settings: ServiceSettings, app: ASGIApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            host=settings.management_host,
            port=settings.management_port,
            http=ServerProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )


def _drain_on_signals(api: Server, settings: ServiceSettings, health: Health) -> None:
    """The first SIGTERM or SIGINT drains, then ends; the second ends at once."""
    draining: list[asyncio.Task[None]] = []

    async def drain() -> None:
        log.info("draining", seconds=settings.drain_seconds, finish_seconds=settings.finish_seconds)
        health.draining.set()
        # keep-alive clients learn from `Connection: close` to go elsewhere; new ones still get answers meanwhile
        await asyncio.sleep(settings.drain_seconds)
        api.should_exit = True

    def on_signal() -> None:
        if draining:
            api.should_exit = True
        else:
            draining.append(asyncio.create_task(drain()))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


async def _watch_loop() -> None:
    """What waits for the loop's turn waits as long as this sleep is late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + WATCH_SECONDS
        await asyncio.sleep(WATCH_SECONDS)
        LOOP_LAG.observe(max(loop.time() - due, 0.0))


async def _serve_management(server: Server) -> None:
    try:
        await server.serve()
    except SystemExit:
        log.error("management_listener_failed", port=server.config.port)


def management_app(routes: APIRouter | None, turn: Turn | None = None) -> FastAPI:
    """What only the cluster's own people and Prometheus reach: metrics, the log level, whose turn it is to consume."""
    app = FastAPI(title="management", docs_url=None, redoc_url=None, openapi_url=None)
    install_problem_handlers(app)

    @app.get("/metrics")
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Prometheus' text format; OpenMetrics, which has the exemplars, to whoever accepts it."""
        encode, media_type = choose_encoder(accept)
        return Response(encode(REGISTRY), headers={"content-type": media_type})

    @app.get("/loglevel")
    async def get_level() -> LogLevel:
        return LogLevel(level=logs.level())

    @app.put("/loglevel")
    async def put_level(request: Request, wanted: LogLevel) -> LogLevel:
        # a policy of the network lets Prometheus in by port, for metrics; to change something is not its business
        if request.client is None or not ip_address(request.client.host).is_loopback:
            raise Forbidden(
                "The log level is changed from the process's own pod or machine: kubectl port-forward, then 127.0.0.1."
            )
        if wanted.level not in logs.LEVELS:
            raise HTTPException(422, f"level is one of {', '.join(logs.LEVELS)}")
        logs.set_level(wanted.level)
        return wanted

    if turn is not None:
        app.include_router(turn_routes(turn))
    if routes is not None:
        app.include_router(routes)
    return app
