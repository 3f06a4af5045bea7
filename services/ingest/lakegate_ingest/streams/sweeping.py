"""Files of commits that came to nothing, because their worker died: deleted once it is certain that nobody has them."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection as acquire
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Problem
from lakegate_chassis.threads import in_thread
from lakegate_ingest.commit import snapshots
from lakegate_ingest.commit.catalog import NoSuchTable
from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.warehouse import Warehouse, join
from lakegate_ingest.metrics import ORPHANS
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.commits import StreamCommitter
from lakegate_ingest.streams.queries import CommitRow
from lakegate_ingest.streams.topics import committed_offset

AT_ONCE = 50
EVERY_SECONDS = 30.0


class Sweep:
    def __init__(
        self, pool: asyncpg.Pool, committer: StreamCommitter, warehouse: Warehouse, *, age_seconds: float
    ) -> None:
        self._pool = pool
        self._warehouse = warehouse
        self._committer = committer
        self._age_seconds = age_seconds

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(min(EVERY_SECONDS, self._age_seconds))

    async def once(self) -> None:
        async with acquire(self._pool) as connection:
            forgotten = await queries.forget_commits(connection, self._age_seconds)
            left = await queries.old_commits(connection, self._age_seconds, AT_ONCE)
            known = await queries.topics(connection) if left else {}
        if forgotten:
            log.info("stream_commits_forgotten", commits=forgotten)
        for row in left:
            if row.topic not in known:
                continue
            try:
                settled = await self._settle(row, *known[row.topic])
            except Problem as problem:
                log.info("stream_orphans_wait", topic=row.topic, reason=problem.detail)
                continue
            except Exception as error:  # noqa: BLE001 - manifests are written by clients; one table must not end the sweep
                log.warning("stream_orphans_wait", topic=row.topic, exc_info=error)
                continue
            if settled:
                async with acquire(self._pool) as connection:
                    await queries.end_commit(connection, row.commit_id)

    async def _settle(self, row: CommitRow, tenant: str, table: object) -> bool:
        """Whether nothing more is to be done about it."""
        async with tenant_transaction(self._pool, tenant) as connection:
            stream = await queries.get_stream(connection, table)  # type: ignore[arg-type]
        if stream is None:
            return False
        try:
            metadata = (await self._committer.load(tenant, stream.table, stream.delegation)).metadata
        except NoSuchTable:
            return True  # dropped: its files went with it or were left to their owner; no commit can come through
        if metadata.location != row.location or snapshots.holds_snapshot(metadata, row.snapshot_id):
            # committed, and its worker died before it said so; or a table that was dropped with all its files
            return True
        for partition, start in row.starts.items():
            at = committed_offset(metadata.properties, row.topic, int(partition))
            if at is not None and at != start:
                # the branch has moved on, so a request of the dead worker that is still on its way can't come through;
                # one that did may have had its snapshot expired, while later ones name its files
                files = TableFiles(self._warehouse, tenant, metadata.location)
                if await in_thread(names_files, metadata, files, row.commit_id):
                    return True
                found = join(row.location, "metadata")
                prefix = snapshots.manifest_list_prefix(row.snapshot_id)
                urls = await asyncio.to_thread(self._warehouse.list_prefix, found, prefix)
                urls += await asyncio.to_thread(self._warehouse.list_prefix, found, f"{row.commit_id}-")
                ORPHANS.inc(await asyncio.to_thread(self._warehouse.delete, [*row.urls, *urls]))
                return True
        return False


def names_files(metadata: TableMetadata, io: FileIO, commit_id: UUID) -> bool:
    """Whether any snapshot names a file of this commit, data or manifest. Blocks.

    By the name, which no other commit's file has: an engine may spell the same URL in another way.
    """
    mark = f"/{commit_id}-"
    looked: set[str] = set()
    for snapshot in reversed(metadata.snapshots):
        for manifest in snapshot.manifests(io):
            if mark in manifest.manifest_path:
                return True
            if manifest.manifest_path in looked:
                continue
            looked.add(manifest.manifest_path)
            # deleted ones too: that they are named says that the commit came through
            if any(mark in entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io, False)):
                return True
    return False
