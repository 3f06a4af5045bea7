"""Workers as processes on this machine: they share the spool, and inherit the settings."""

from __future__ import annotations

import asyncio
import sys
from uuid import UUID

from lakegate_chassis.logs import log
from lakegate_chassis.settings import as_environment
from lakegate_ingest.errors import WorkerUnavailable
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.workers.port import Look


class Processes:
    """A worker outlives this process when that is killed, and goes on; told to end, it ends its workers first."""

    same_disk = True

    def __init__(self, settings: IngestSettings) -> None:
        self._environment = as_environment(settings)
        self._stop_seconds = settings.worker.stop_seconds
        self._children: dict[UUID, asyncio.subprocess.Process] = {}

    async def start(self, load_id: UUID, size_bytes: int) -> None:
        known = self._children.get(load_id)
        if known is not None and known.returncode is None:
            return
        try:
            self._children[load_id] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lakegate_ingest.worker", str(load_id),
                env=self._environment, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            log.error("worker_refused", load_id=str(load_id), exc_info=error)
            raise WorkerUnavailable("No process could be started for it on this machine. Try again later.") from error

    async def look(self, load_id: UUID) -> Look:
        child = self._children.get(load_id)
        if child is None:
            return Look(over=True, words="its process is not known here")
        if child.returncode is None:
            return Look(over=False, words="its process runs")
        return Look(over=True, words=f"its process ended with code {child.returncode}")

    async def stop(self, load_id: UUID) -> None:
        child = self._children.pop(load_id, None)
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), self._stop_seconds)
        except TimeoutError:
            log.warning("worker_killed", load_id=str(load_id), pid=child.pid)
            child.kill()
            await child.wait()

    async def forget(self, load_id: UUID) -> None:
        # it has said all that it had to say; a process that hangs on its way out is not left behind
        child = self._children.get(load_id)
        if child is not None:
            try:
                await asyncio.wait_for(child.wait(), self._stop_seconds)
            except TimeoutError:
                await self.stop(load_id)
        self._children.pop(load_id, None)

    async def close(self) -> None:
        await asyncio.gather(*(self.stop(load_id) for load_id in list(self._children)))
