"""The FastAPI application of a service, with everything that all of them have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import Depends, FastAPI

from lakegate_chassis.auth import AuthMiddleware
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog.turn import Turn, details
from lakegate_chassis.health import Health, install_health
from lakegate_chassis.metrics import BUILD_INFO
from lakegate_chassis.middleware import RequestMiddleware
from lakegate_chassis.problems import PROBLEMS, Dialect, ProblemBody, install_problem_handlers, strict_query
from lakegate_chassis.settings import BackendSettings, ServiceSettings
from lakegate_chassis.tokens import TokenVerifier

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def service_app(
    *, service: str, title: str, settings: ServiceSettings, lifespan: Lifespan, dialect: Dialect | None = None
) -> FastAPI:
    """An app with problems, ids, metrics and health; `app.state.health` is its Health.

    `dialect` answers errors that are made outside of the endpoints, for paths whose clients know no problems. With
    BackendSettings every path but the health ones demands an internal token for `service`, and `app.state.turn` says
    whether its consumers are to run.
    """
    health = Health()
    release = version(f"lakegate-{service}")

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        BUILD_INFO.labels(service, release, settings.environment).set(1)
        background = Background()
        turn: Turn | None = getattr(app.state, "turn", None)
        if turn is not None:
            background.start("consumers-turn", turn.follow)
        try:
            if isinstance(settings, BackendSettings) and settings.kafka.bootstrap is not None:
                # a suite without Kafka need not pay for the import of its client
                from lakegate_chassis.eventlog.kafka.login import check_login

                await check_login(settings.kafka)
            async with lifespan(app):
                health.started = True
                yield
                health.started = False
        finally:
            await background.stop()

    app = FastAPI(
        title=title,
        version=release,
        lifespan=run,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        responses=PROBLEMS,
        dependencies=[Depends(strict_query)],
    )
    app.state.health = health
    app.state.settings = settings
    if dialect is not None:
        app.state.dialect = dialect
    install_problem_handlers(app)
    install_health(app, health)
    if isinstance(settings, BackendSettings):
        app.add_middleware(AuthMiddleware, verifier=TokenVerifier(settings.token.jwks, service))
        turn = app.state.turn = Turn(settings.consumers)
        health.details["consumers"] = partial(details, turn)
    # added last, so it is the outermost
    app.add_middleware(
        RequestMiddleware,
        service=service,
        health=health,
        tenant_classes=settings.tenant_classes,
        edge=not isinstance(settings, BackendSettings),
    )
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Put the problem's schema into the OpenAPI document under the name that PROBLEMS refers to."""
    generate = app.openapi

    def openapi() -> dict[str, object]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault("ProblemBody", ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}"))
        return document

    app.openapi = openapi  # type: ignore[method-assign]
