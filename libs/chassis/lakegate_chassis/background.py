"""Background loops: supervised, counted, and ended at stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from lakegate_chassis.logs import log
from lakegate_chassis.metrics import BACKGROUND_RESTARTS, BACKGROUND_RUNNING

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0


class Background:
    """The loops of one process. A loop that fails is logged, counted and started again with back-off."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Supervise `run`: it may return (and is then done) or raise (and is then started again)."""
        self._tasks[name] = asyncio.create_task(self._supervise(name, run), name=name)

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = asyncio.get_running_loop().time()
            BACKGROUND_RUNNING.labels(name).set(1)
            try:
                await run()
            except asyncio.CancelledError as error:
                # A client library can let the cancellation of a future of its own through. Nobody asked us to stop
                # then, and the loop would be gone without a word.
                if _is_asked_to_stop():
                    raise
                _failed(name, error)
            except Exception as error:  # noqa: BLE001 - a supervisor outlives whatever its loop raises
                _failed(name, error)
            else:
                return
            finally:
                BACKGROUND_RUNNING.labels(name).set(0)
            if asyncio.get_running_loop().time() - began > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def stop(self, timeout_seconds: float = 10.0) -> None:
        """Cancel every loop and wait for them; what does not end in time is logged by name."""
        for task in self._tasks.values():
            task.cancel()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=timeout_seconds)
        for task in late:
            log.error("background_did_not_stop", task=task.get_name())
        self._tasks.clear()


def _is_asked_to_stop() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _failed(name: str, error: BaseException) -> None:
    log.error("background_failed", task=name, exc_info=error)
    BACKGROUND_RESTARTS.labels(name).inc()
