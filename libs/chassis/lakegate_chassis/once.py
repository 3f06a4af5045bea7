"""A process that does one thing and ends, as a CronJob or a Job of a cluster has it."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import NoReturn

import uvloop

from lakegate_chassis import logs, tracing
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.logs import log
from lakegate_chassis.settings import ConsumerSettings, ServiceSettings

STOPPED = 143  # as a shell has it: 128 and SIGTERM


def run_once(service: str, settings: ServiceSettings, work: Callable[[], Awaitable[bool]]) -> NoReturn:
    """Exit with 0 when `work` says true, else with 1. SIGTERM and SIGINT cancel it; the exit code is 143 then."""
    logs.configure(settings, service)
    provider = tracing.configure(settings, service, version(f"lakegate-{service}"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_until_stopped(work))
    finally:
        if provider is not None:
            provider.shutdown()
    sys.exit(code)


async def _until_stopped(work: Callable[[], Awaitable[bool]]) -> int:
    task = asyncio.ensure_future(work())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return 0 if await task else 1
    except asyncio.CancelledError:
        log.info("stopped_early")
        return STOPPED


async def sweep_once(
    sweeps: Mapping[str, Callable[[], Awaitable[object]]], consumers: ConsumerSettings | None = None
) -> bool:
    """Each sweep once, in order; one that fails is logged and does not keep the others from running.

    Of two colours that are alive the one whose turn it is to consume sweeps, so that no former release does.
    """
    if consumers is not None and not Turn(consumers).is_ours:
        log.info("sweeps_left_to_other_colour", colour=consumers.colour)
        return True
    done = True
    for name, sweep in sweeps.items():
        began = time.perf_counter()
        try:
            result = await sweep()
        except Exception as error:  # noqa: BLE001 - the next sweep is about other rows
            log.error("sweep_failed", sweep=name, exc_info=error)
            done = False
        else:
            log.info("swept", sweep=name, result=result, seconds=round(time.perf_counter() - began, 3))
    return done
