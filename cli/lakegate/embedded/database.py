"""The suite's PostgreSQL: the embedded one, or one given by URL."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import asyncpg
from rich.text import Text

from lakegate.embedded.errors import EmbeddedPostgresError
from lakegate.embedded.layout import Home
from lakegate.embedded.ports import SERVICES
from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate.embedded.processes import die_with_parent, how_it_ended, start_time
from lakegate.embedded.secret_files import secret
from lakegate.embedded.state import Phase, ProcessState
from lakegate.text import styled, visible_lines
from lakegate_chassis.migration_files import MigrationFailed
from lakegate_chassis.provision import provision

NAME = "postgres"
_WATCH_SECONDS = 0.5
# A server that dies is started again at once, then after 0.5 s, twice as long each time; a minute of life forgives it.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _FORGIVEN_AFTER_SECONDS = 0.5, 15.0, 60.0


class DatabaseFailed(Exception):
    """The database can't be reached, refuses us, or can't be migrated; the message says which."""


def is_postgres_url(url: str) -> bool:
    """Whether it has the form of one; nothing is asked there."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("postgres", "postgresql") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Database:
    """Started, provisioned and kept running; with a URL only provisioned. `say` gets lines."""

    def __init__(self, home: Home, url: str | None, say: Callable[[str | Text], None]) -> None:
        self._home = home
        self._url = url
        self._say = say
        self._server: EmbeddedPostgres | None = None
        # One thread for all starts: the kernel ends the server together with the thread that started it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgres")
        self.state: ProcessState | None = None

    async def start(self) -> dict[str, str]:
        """The application URL of each service. Raises EmbeddedPostgresError and DatabaseFailed."""
        admin_url = self._url
        if admin_url is None:
            self._server = EmbeddedPostgres(
                self._home.postgres,
                log_path=self._home.log(NAME),
                # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for its clients.
                in_child=die_with_parent(signal.SIGINT),
            )
            admin_url = await self._launch(self._server)
            self.state = ProcessState(name=NAME, port=self._server.port, log=self._server.log_path)
            self._note(self._server)
        passwords = {name: secret(self._home.secrets / f"postgres-{name}") for name in SERVICES}
        try:
            return await provision(admin_url, passwords)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, MigrationFailed) as error:
            place = urlsplit(admin_url).netloc.rpartition("@")[2]
            whose = "LAKEGATE_POSTGRES_URL" if self._url else "the embedded PostgreSQL"
            raise DatabaseFailed(f"The database at {place} ({whose}) can't be prepared: {error}") from error

    async def keep(self, changed: Callable[[], None]) -> None:
        """Start the server again whenever it died; the services' pools find it on the same port.

        A start that fails is tried again with back-off: the services answer 503 meanwhile.
        """
        pause, started = 0.0, time.monotonic()
        while self._server is not None and self._server.process is not None and self.state is not None:
            if (code := self._server.process.poll()) is None:
                await asyncio.sleep(_WATCH_SECONDS)
                continue
            how = how_it_ended(code)
            self._say(
                styled(("postgresql died", "bold red"), f" ({how}); starting it again, see {self._server.log_path}")
            )
            self.state.phase, self.state.pid, self.state.last_exit = Phase.RESTARTING, None, how
            self.state.restarts += 1
            changed()
            if time.monotonic() - started > _FORGIVEN_AFTER_SECONDS:
                pause = 0.0
            while True:
                await asyncio.sleep(pause)
                pause = min(max(pause * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
                try:
                    await self._launch(self._server)
                except (EmbeddedPostgresError, OSError) as error:
                    again = f"again in {pause:.2g} s"
                    self._say(
                        styled(
                            ("postgresql does not start", "bold red"),
                            f", {again}: ",
                            Text(visible_lines(str(error), 9)),
                        )
                    )
                else:
                    break
            started = time.monotonic()
            self._note(self._server)
            changed()
            self._say(f"postgresql ready again (restart {self.state.restarts})")

    async def stop(self) -> None:
        if self._server is not None:
            # In the same thread: a start that is under way comes to its end first.
            await asyncio.get_running_loop().run_in_executor(self._thread, self._server.stop)
        self._thread.shutdown()

    async def _launch(self, server: EmbeddedPostgres) -> str:
        url = await asyncio.get_running_loop().run_in_executor(self._thread, server.start)
        for folder in server.opened:
            self._say(styled((f"{folder} may now be passed by other users", "yellow"), " (o+x): PostgreSQL needs it"))
        return url

    def _note(self, server: EmbeddedPostgres) -> None:
        if self.state is not None and server.process is not None:
            self.state.phase, self.state.pid = Phase.READY, server.process.pid
            self.state.started = start_time(server.process.pid)
