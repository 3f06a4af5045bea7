"""The suite's PostgreSQL: the embedded one, or one given by URL."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from urllib.parse import urlsplit

import asyncpg

from lakegate.embedded.layout import Home
from lakegate.embedded.ports import SERVICES
from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate.embedded.processes import die_with_parent, how_it_ended, start_time
from lakegate.embedded.provision import provision
from lakegate.embedded.secret_files import secret
from lakegate.embedded.state import Phase, ProcessState
from lakegate_chassis.migration_files import MigrationFailed

NAME = "postgres"
_WATCH_SECONDS = 0.5


class DatabaseFailed(Exception):
    """The database can't be reached, refuses us, or can't be migrated; the message says which."""


class Database:
    """Started, provisioned and kept running; with a URL only provisioned."""

    def __init__(self, home: Home, url: str | None) -> None:
        self._home = home
        self._url = url
        self._server: EmbeddedPostgres | None = None
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
            admin_url = self._launch(self._server)
            self.state = ProcessState(name=NAME, port=self._server.port, log=self._server.log_path)
            self._note(self._server)
        passwords = {name: secret(self._home.secrets / f"postgres-{name}") for name in SERVICES}
        try:
            return await provision(admin_url, passwords)
        except (OSError, asyncpg.PostgresError, MigrationFailed) as error:
            place = urlsplit(admin_url).netloc.rpartition("@")[2]
            whose = "LAKEGATE_POSTGRES_URL" if self._url else "the embedded PostgreSQL"
            raise DatabaseFailed(f"The database at {place} ({whose}) can't be prepared: {error}") from error

    async def keep(self, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        """Start the server again when it died; the services' pools find it on the same port."""
        while self._server is not None and self._server.process is not None and self.state is not None:
            if (code := self._server.process.poll()) is not None:
                how = how_it_ended(code)
                say(f"[bold red]postgresql died[/] ({how}); starting it again, see {self._server.log_path}")
                self.state.phase, self.state.pid, self.state.last_exit = Phase.RESTARTING, None, how
                self.state.restarts += 1
                changed()
                self._launch(self._server)
                self._note(self._server)
                changed()
                say(f"postgresql ready again (restart {self.state.restarts})")
            await asyncio.sleep(_WATCH_SECONDS)

    async def stop(self) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)

    def _launch(self, server: EmbeddedPostgres) -> str:
        # In this thread, although it blocks for a moment: the server's life is tied to the thread that started it.
        return server.start()

    def _note(self, server: EmbeddedPostgres) -> None:
        if self.state is not None and server.process is not None:
            self.state.phase, self.state.pid = Phase.READY, server.process.pid
            self.state.started = start_time(server.process.pid)
