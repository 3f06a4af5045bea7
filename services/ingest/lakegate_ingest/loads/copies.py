"""Copies of spooled files in the object store, made while they arrive, so that another replica can go on with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

from lakegate_chassis.logs import log
from lakegate_ingest import engine
from lakegate_ingest.errors import LoadInterrupted, StoreUnavailable
from lakegate_ingest.loads.queries import LoadRow
from lakegate_ingest.loads.schemas import StoredFile
from lakegate_ingest.metrics import REMOTE_SPOOL
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.remote import RemoteSpool, arriving
from lakegate_ingest.spool.sinks import FileSink

# Each holds about 25 MB. A slow client keeps one of the first to itself; who gets none is copied once it is whole.
FOLLOWING = 2
AFTERWARDS = 2


@dataclass
class Copy:
    """One file that is copied while it arrives."""

    key: str
    arrival: engine.Arrival
    done: asyncio.Future[None]


@dataclass
class Copies:
    """Of one process. `remote` is None where the warehouse is no object store: nothing is copied then."""

    remote: RemoteSpool | None
    spool: Spool
    least_bytes: int
    _following: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(FOLLOWING, "spool-follow"))
    _afterwards: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AFTERWARDS, "spool-copy"))
    _under_way: dict[UUID, Copy] = field(default_factory=dict)
    _copied: set[UUID] = field(default_factory=set)

    def follow(self, load_id: UUID, tenant: str, sink: FileSink) -> None:
        """Begin to copy a file that still arrives, if a thread is free. Its end is `keep` or `abort`."""
        if self.remote is None or load_id in self._under_way or len(self._under_way) >= FOLLOWING:
            return
        arrival = engine.Arrival()
        key = self.remote.key(tenant, load_id, sink.path.name)
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._following, self.remote.put, key, arriving(sink.path, arrival))
        self._under_way[load_id] = Copy(key, arrival, done)
        self._copied.add(load_id)
        sink.follow(arrival.advance)

    async def keep(
        self, load_id: UUID, tenant: str, files: list[StoredFile], folder: Path, *, always: bool
    ) -> list[StoredFile]:
        """The files, with the keys of their copies where they are to have some.

        A store that fails costs the copies and not the load: it goes on from the local disk.
        """
        copy = self._under_way.pop(load_id, None)
        wanted = always or sum(file.size_bytes for file in files) >= self.least_bytes
        if self.remote is None or not (wanted or copy is not None):
            return files
        self._copied.add(load_id)
        kept = []
        try:
            if copy is not None:
                copy.arrival.finish()
                await copy.done
            for file in files:
                key = self.remote.key(tenant, load_id, file.spool_name)
                if copy is None or copy.key != key:
                    put = partial(self.remote.put, key, folder / file.spool_name)
                    await asyncio.get_running_loop().run_in_executor(self._afterwards, put)
                kept.append(file.model_copy(update={"object_key": key}))
        except StoreUnavailable as error:
            log.warning("spool_not_copied", load_id=str(load_id), reason=error.detail)
            REMOTE_SPOOL.labels("failed").inc()
            return files
        REMOTE_SPOOL.labels("stored").inc(len(kept))
        return kept

    async def abort(self, load_id: UUID) -> None:
        """The body will not be complete: the store drops what it has of it."""
        copy = self._under_way.pop(load_id, None)
        if copy is None:
            return
        copy.arrival.abort()
        try:
            await copy.done
        except Exception as error:  # noqa: BLE001 — whatever the store makes of our Aborted, it was asked for
            log.info("spool_copy_aborted", load_id=str(load_id), reason=type(error).__name__)

    def adopt(self, load: LoadRow) -> None:
        """A load that another process had: its copies are ours to remove now."""
        if is_copied(load.files):
            self._copied.add(load.load_id)

    async def restore(self, load: LoadRow) -> None:
        """Bring the files of a load that another process received to this one's disk.

        Raises LoadInterrupted when there are none, StoreUnavailable, SpoolFull.
        """
        remote = self.remote
        if remote is None or not is_copied(load.files):
            raise LoadInterrupted("The process that held this load's spool is gone. Nothing was loaded; send it again.")
        try:
            await asyncio.get_running_loop().run_in_executor(self._afterwards, self._fetch, remote, load)
        except FileNotFoundError as error:
            raise LoadInterrupted("The copies of this load's files are gone. Send it again.") from error
        REMOTE_SPOOL.labels("fetched").inc(len(load.files))

    def _fetch(self, remote: RemoteSpool, load: LoadRow) -> None:
        self.spool.remove(load.load_id)
        folder = self.spool.create(load.load_id)
        for file in load.files:
            assert file.object_key is not None
            remote.fetch(file.object_key, folder / file.spool_name, lambda size: self.spool.grow(load.load_id, size))

    async def remove(self, load_id: UUID, tenant: str) -> None:
        """The load has ended. What can't be deleted now is a stray, which a sweep finds."""
        if self.remote is None or load_id not in self._copied:
            return
        self._copied.discard(load_id)
        try:
            await asyncio.get_running_loop().run_in_executor(self._afterwards, self.remote.remove, tenant, load_id)
        except StoreUnavailable:
            log.warning("spool_copy_left", load_id=str(load_id))

    def close(self) -> None:
        for copy in self._under_way.values():
            copy.arrival.abort()
        for threads in (self._following, self._afterwards):
            threads.shutdown(wait=False, cancel_futures=True)


def is_copied(files: Sequence[StoredFile]) -> bool:
    """Whether every file of a load is in the object store."""
    return bool(files) and all(file.object_key is not None for file in files)
