"""Health, split in three: live (restart me when not), ready (send me requests), startup (not yet, wait)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import asyncpg
import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from lakegate_chassis.logs import log

HEALTH_PATHS = frozenset({"/livez", "/readyz", "/startupz"})
CHECK_TIMEOUT_SECONDS = 2.0
Check = Callable[[], Awaitable[object]]


class Health:
    """The state of one process. `draining` is set once, at SIGTERM; long answers watch it and end.

    `details` are told by /readyz beside the checks, and decide nothing.
    """

    def __init__(self) -> None:
        self.started = False
        self.draining = asyncio.Event()
        self.checks: dict[str, Check] = {}
        self.details: dict[str, Callable[[], object]] = {}

    def add_checks(self, checks: Mapping[str, Check]) -> None:
        """Name what this service can't work without; a check raises when it is not there."""
        self.checks |= checks

    async def failures(self) -> dict[str, str]:
        """Each failing check with its reason, all asked at once, within CHECK_TIMEOUT_SECONDS."""
        results = await asyncio.gather(*(self._ask(name, check) for name, check in self.checks.items()))
        return {name: reason for name, reason in results if reason}

    async def _ask(self, name: str, check: Check) -> tuple[str, str]:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                await check()
        except TimeoutError:
            return name, f"no answer in {CHECK_TIMEOUT_SECONDS:.0f} s"
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, httpx.HTTPError) as error:
            return name, type(error).__name__
        return name, ""


def install_health(app: FastAPI, health: Health) -> None:
    """Serve /livez, /readyz and /startupz; they need no token and say nothing secret."""

    @app.get("/livez", include_in_schema=False)
    async def live() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", include_in_schema=False)
    async def ready() -> JSONResponse:
        if health.draining.is_set():
            return JSONResponse({"status": "draining"}, 503)
        failures = await health.failures()
        if failures:
            log.warning("not_ready", failures=failures)
            return JSONResponse({"status": "unavailable", "failures": failures}, 503)
        details = {name: tell() for name, tell in health.details.items()}
        return JSONResponse({"status": "ok", "checks": sorted(health.checks), **details})

    @app.get("/startupz", include_in_schema=False)
    async def startup() -> JSONResponse:
        return JSONResponse({"status": "ok" if health.started else "starting"}, 200 if health.started else 503)
