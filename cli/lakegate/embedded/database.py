"""The suite's PostgreSQL: the embedded one, or one given by URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lakegate.embedded.layout import Home
from lakegate.embedded.ports import SERVICES
from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate.embedded.processes import how_it_ended
from lakegate.embedded.provision import provision
from lakegate.embedded.secret_files import secret

_WATCH_SECONDS = 0.5


class Database:
    """Started, provisioned and kept running; with a URL only provisioned."""

    def __init__(self, home: Home, url: str | None) -> None:
        self._home = home
        self._url = url
        self._server: EmbeddedPostgres | None = None

    async def start(self) -> dict[str, str]:
        """The application URL of each service. Raises what EmbeddedPostgres.start and provision raise."""
        admin_url = self._url
        if admin_url is None:
            self._server = EmbeddedPostgres(self._home.postgres, log_path=self._home.log("postgres"))
            admin_url = await asyncio.to_thread(self._server.start)
        passwords = {name: secret(self._home.secrets / f"postgres-{name}") for name in SERVICES}
        return await provision(admin_url, passwords)

    async def keep(self, say: Callable[[str], None], stop: asyncio.Event) -> None:
        """Start the server again when it died; the services' pools find it on the same port."""
        while not stop.is_set():
            process = self._server.process if self._server else None
            if self._server is None or process is None:
                return
            if (code := process.poll()) is not None:
                how = how_it_ended(code)
                say(f"[bold red]postgresql died[/] ({how}); starting it again, see {self._server.log_path}")
                await asyncio.to_thread(self._server.start)
                say("postgresql ready again")
            await asyncio.sleep(_WATCH_SECONDS)

    async def stop(self) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
