"""One LISTEN connection a process, shared by all that wait for events; held only while somebody waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import LOST_CONNECTION

EVENTS = "lakegate_events"
GROUPS = "lakegate_groups"
_RECONNECT_SECONDS = 1.0
# A server that went with the network says nothing: after so long without a notification it is asked something.
_QUIET_SECONDS = 30.0
_LEAVE_SECONDS = 5.0
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, *LOST_CONNECTION)


class Wakeups:
    """Counts notifications by channel. Take a ticket, look for work, then wait for what came since the ticket:
    nothing is missed in between. Without a connection waits just time out, so readers poll.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._counts: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._users = 0
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Keep the connection open for the length of the block."""
        self._users += 1
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="eventlog-listen")
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0 and self._task is not None:
                task, self._task = self._task, None
                task.cancel()
                await asyncio.wait([task])

    def ticket(self, channel: str) -> int:
        return self._counts[channel]

    async def wait(self, channel: str, ticket: int, timeout_seconds: float) -> bool:
        """False when nothing came within the time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                await self._changed.wait_for(lambda: self._counts[channel] != ticket)
        except TimeoutError:
            return False
        return True

    async def _listen(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await self._serve(connection)
            except _LOST as error:
                log.warning("eventlog_listener_lost", error=str(error) or type(error).__name__)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _serve(self, connection: Any) -> None:
        woken = asyncio.Event()
        pending: set[str] = set()

        def on_notify(_: Any, __: int, channel: str, ___: object) -> None:
            pending.add(channel)
            woken.set()

        def on_loss(_: Any) -> None:
            woken.set()

        connection.add_termination_listener(on_loss)
        try:
            for channel in (EVENTS, GROUPS):
                await connection.add_listener(channel, on_notify)
            # What came while nobody listened.
            pending.update((EVENTS, GROUPS))
            while not connection.is_closed():
                async with self._changed:
                    self._counts.update(pending)
                    pending.clear()
                    self._changed.notify_all()
                await self._woken_or_alive(connection, woken)
                woken.clear()
        finally:
            if not connection.is_closed():
                connection.remove_termination_listener(on_loss)
                await _stop_listening(connection, on_notify)

    async def _woken_or_alive(self, connection: Any, woken: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                await woken.wait()
                return
        except TimeoutError:
            pass
        try:
            await connection.execute("SELECT 1")
        except TimeoutError:
            connection.terminate()  # nothing more is to be said to it, not even that we no longer listen
            raise


async def _stop_listening(connection: Any, on_notify: Any) -> None:
    """Raises nothing: who is cancelled and says here that the server is away would be taken for one to go on."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            for channel in (EVENTS, GROUPS):
                await connection.remove_listener(channel, on_notify)
    except _LOST as error:
        log.warning("eventlog_listener_lost", error=str(error) or type(error).__name__)
        connection.terminate()
