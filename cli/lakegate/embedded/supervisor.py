"""`lakegate up`: starts PostgreSQL and the four services, keeps them running, ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.text import Text

from lakegate import __version__
from lakegate.embedded import processes
from lakegate.embedded.database import Database
from lakegate.embedded.layout import Home, last_lines
from lakegate.embedded.leftovers import end_leftovers
from lakegate.embedded.ports import HOST, Ports
from lakegate.embedded.secret_files import secret
from lakegate.embedded.services import PUBLIC_KEYS, Service, services
from lakegate.embedded.state import Phase, ProcessState, SuiteState, write_state
from lakegate.settings import inherited_environment
from lakegate.text import styled

START_SECONDS = 90.0
_PROBE_EVERY_SECONDS = 0.05
# A child that dies is started again after 0.25 s, then twice as long each time; a minute of life forgives it.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _FORGIVEN_AFTER_SECONDS = 0.25, 10.0, 60.0
_LOGS_EVERY_SECONDS = 5.0
_EX_CONFIG = 78

Say = Callable[[str | Text], None]


class SuiteFailed(Exception):
    """The suite could not start; the message says why and shows the end of the log that knows."""


class Supervisor:
    """One run of a suite; the caller holds the folder's lock. `say` gets a line per event."""

    def __init__(self, home: Home, ports: Ports, postgres_url: str | None, profile: str, say: Say) -> None:
        self._home = home
        self._ports = ports
        self._database = Database(home, postgres_url, say)
        self._say = say
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._state = SuiteState(
            pid=os.getpid(),
            url=f"http://{HOST}:{ports.api['gateway']}",
            profile=profile,
            version=__version__,
            started_at=datetime.now(UTC),
        )

    async def run(self, on_ready: Callable[[SuiteState, str], None], *, fresh: bool = False) -> None:
        """Start, call `on_ready(state, key)`, and return after SIGTERM or SIGINT, when all has ended.

        `fresh` removes the data first, once nothing is left that could hinder the start.
        Raises ForeignFolder, SuiteFailed, PortTaken and the errors of the embedded PostgreSQL; nothing is left
        running then.
        """
        self._watch_signals()
        begun = time.monotonic()
        watchers: list[asyncio.Task[None]] = []
        suite: list[Service] = []
        try:
            end_leftovers(self._home, self._say)
            self._ports.check()
            if fresh:
                self._home.wipe()
            self._home.make()
            self._home.bound_logs()
            self._save()
            admin_key = secret(self._home.secrets / "admin.key", "lgk_")
            urls = await self._prepare()
            self._say(f"postgresql ready after {time.monotonic() - begun:.1f} s")
            if self._database.state is not None:
                self._state.processes[self._database.state.name] = self._database.state
            suite = services(self._home, self._ports, urls, admin_key, inherited_environment())
            for service in suite:
                self._state.processes[service.name] = ProcessState(
                    name=service.name,
                    port=service.port,
                    management_port=service.management_port,
                    log=service.log,
                )
            watchers = [asyncio.create_task(self._keep(service, begun)) for service in suite]
            if self._database.state is not None:
                watchers.append(asyncio.create_task(self._database.keep(self._save)))
            watchers.append(asyncio.create_task(self._bound_logs()))
            await self._until_ready(watchers)
            if not self._stop.is_set():
                self._state.phase = Phase.READY
                self._state.ready_seconds = round(time.monotonic() - begun, 2)
                self._save()
                on_ready(self._state, admin_key)
                await self._until_asked(watchers)
        finally:
            self._stop.set()
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await self._end(suite)

    def _save(self) -> None:
        write_state(self._home, self._state)

    async def _prepare(self) -> dict[str, str]:
        """The database and the keys, side by side; the database's URL for each service."""
        database, keys = asyncio.create_task(self._database.start()), asyncio.create_task(self._make_keys())
        # Both to their end before an error is raised: nothing may be started after we have cleaned up.
        await asyncio.wait({database, keys})
        keys.result()
        return database.result()

    def _watch_signals(self) -> None:
        def ask() -> None:
            if self._stop.is_set():
                self._say("asked twice: ending at once")
                self._hurry.set()
            self._stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, ask)

    async def _make_keys(self) -> None:
        """The keys that sign tokens, once."""
        folder = self._home.secrets / "keys"
        if any(folder.glob("*.pem")) and (folder / PUBLIC_KEYS).exists():
            return
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "lakegate_gateway.keygen",
            str(folder),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise SuiteFailed(f"Making the internal keys failed:\n{output.decode(errors='replace')[-1500:]}")

    async def _keep(self, service: Service, begun: float) -> None:
        """Start a service, again whenever it dies. Ends only by SuiteFailed, or cancelled."""
        state = self._state.processes[service.name]
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            log_begins = service.log.stat().st_size if service.log.exists() else 0
            process = await processes.spawn(service.module, service.environment, service.log)
            self._children[service.name] = process
            state.pid, state.started = process.pid, processes.start_time(process.pid)
            self._save()
            ended = asyncio.create_task(process.wait())
            try:
                await self._announce_ready(service, ended, begun if state.restarts == 0 else started)
                returncode = await asyncio.shield(ended)
            finally:
                ended.cancel()
            if self._stop.is_set():
                return
            how = processes.how_it_ended(returncode)
            tail = last_lines(service.log, after=log_begins)
            if returncode == _EX_CONFIG or (self._state.phase is Phase.STARTING and state.restarts >= 2):
                raise SuiteFailed(f"{service.name} does not start ({how}). {service.log} ends:\n{tail}")
            state.phase, state.pid, state.last_exit = Phase.RESTARTING, None, how
            state.restarts += 1
            self._save()
            self._say(
                styled(
                    (f"{service.name} died", "bold red"),
                    f" ({how}); starting it again in {pause:.2g} s, see {service.log}",
                )
            )
            await asyncio.sleep(pause)
            lived = time.monotonic() - started
            pause = _FIRST_PAUSE_SECONDS if lived > _FORGIVEN_AFTER_SECONDS else min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOGS_EVERY_SECONDS)
            try:
                await asyncio.to_thread(self._home.bound_logs)
            except OSError as error:
                # A full disk is what this shall prevent; it is no reason to end a suite that serves.
                self._say(styled(("the logs can't be bounded", "yellow"), f": {error}"))

    async def _announce_ready(self, service: Service, ended: asyncio.Task[int], since: float) -> None:
        """Return once the service says that it is ready, or has died."""
        state = self._state.processes[service.name]
        while not ended.done():
            if await processes.is_ready(service.port):
                state.phase = Phase.READY
                self._save()
                again = f" again (restart {state.restarts})" if state.restarts else ""
                self._say(f"{service.name} ready{again} after {time.monotonic() - since:.1f} s")
                return
            await asyncio.wait({ended}, timeout=_PROBE_EVERY_SECONDS)

    async def _until_ready(self, watchers: list[asyncio.Task[None]]) -> None:
        """All services ready, or asked to stop. Raises SuiteFailed."""
        deadline = time.monotonic() + START_SECONDS
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                for watcher in watchers:
                    if watcher.done():
                        watcher.result()
                waiting = [name for name, item in self._state.processes.items() if item.phase is not Phase.READY]
                if not waiting:
                    return
                if time.monotonic() > deadline:
                    late = ", ".join(waiting)
                    raise SuiteFailed(f"Not ready after {START_SECONDS:.0f} s: {late}. See {self._home.logs}.")
                await asyncio.wait({stopped, *watchers}, timeout=_PROBE_EVERY_SECONDS, return_when="FIRST_COMPLETED")
        finally:
            stopped.cancel()

    async def _until_asked(self, watchers: list[asyncio.Task[None]]) -> None:
        """Until SIGTERM or SIGINT. Raises what a watcher gave up with, such as a database that doesn't come back."""
        stopped = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, *watchers}, return_when="FIRST_COMPLETED")
        finally:
            stopped.cancel()
        for watcher in done - {stopped}:
            watcher.result()

    async def _end(self, suite: list[Service]) -> None:
        """The gateway first, then what is behind it, the database last."""
        self._state.phase = Phase.STOPPING
        with contextlib.suppress(OSError):
            self._save()
        if self._children:
            self._say("draining: finishing what is under way")
        await self._end_some([service for service in suite if service.name == "gateway"])
        await self._end_some([service for service in suite if service.name != "gateway"])
        await self._database.stop()
        self._home.state.unlink(missing_ok=True)
        if self._children:
            self._say("stopped")

    async def _end_some(self, some: list[Service]) -> None:
        async def end(service: Service) -> None:
            child = self._children.get(service.name)
            if child is None:
                return
            gone = asyncio.create_task(processes.end(child, service.end_seconds))
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait({gone, hurry}, return_when="FIRST_COMPLETED")
            if not gone.done():
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            if not await gone:
                self._say(f"{service.name} had not ended after {service.end_seconds:.0f} s and was killed")
            hurry.cancel()

        await asyncio.gather(*(end(service) for service in some))
