"""Tables as streams see them: their shape, kept for moments, and made by the first rows where there is none."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from lakegate_contracts.names import TableName
from lakegate_ingest.commit import snapshots
from lakegate_ingest.commit.catalog import Catalog, Conflict, NoSuchTable, OutcomeUnknown
from lakegate_ingest.errors import CatalogUnavailable, SchemaConflict
from lakegate_ingest.streams.shape import Shape

MOST_KEPT = 1000


@dataclass(frozen=True)
class Known:
    """A table's shape as it was a moment ago."""

    shape: Shape
    last_column_id: int


class Tables:
    """Shapes by tenant and table, each asked for once in `schema_seconds`."""

    def __init__(self, catalog: Catalog, *, schema_seconds: float) -> None:
        self._catalog = catalog
        self._seconds = schema_seconds
        self._kept: OrderedDict[tuple[str, TableName], tuple[float, Known]] = OrderedDict()
        self._asking: dict[tuple[str, TableName], asyncio.Task[Known | None]] = {}

    async def get(self, tenant: str, table: TableName, delegation: str) -> Known | None:
        """None when there is no such table. Raises CatalogRefused, CatalogUnavailable."""
        key = (tenant, table)
        kept = self._kept.get(key)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        # all that come at once wait for one answer
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, delegation))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, key: tuple[str, TableName], delegation: str) -> Known | None:
        try:
            metadata = (await self._catalog.load(*key, delegation)).metadata
        except NoSuchTable:
            self._kept.pop(key, None)
            return None
        return self._keep(key, metadata)

    def _keep(self, key: tuple[str, TableName], metadata: TableMetadata) -> Known:
        former = self._kept.get(key)
        schema = metadata.schema()
        if former is not None and former[1].shape.schema == schema:
            known = Known(former[1].shape, metadata.last_column_id)
        else:
            known = Known(Shape(schema), metadata.last_column_id)
        if not metadata.spec().is_unpartitioned():
            raise SchemaConflict(
                f"{key[1]} is partitioned, and streams write unpartitioned tables only. Use an engine."
            )
        self._kept[key] = (time.monotonic() + self._seconds, known)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return known

    async def create(self, tenant: str, table: TableName, schema: Schema, delegation: str) -> Known:
        """Make an empty table of `schema`; one that somebody else has made first is as good."""
        await self._catalog.ensure_namespace(tenant, table, delegation)
        try:
            staged = (await self._catalog.stage(tenant, table, schema, delegation)).metadata
            requirements, updates = snapshots.schema_updates(staged, staged.schema(), new=True)
            made = await self._catalog.commit(tenant, table, requirements, updates, delegation)
            return self._keep((tenant, table), made.metadata)
        except (Conflict, OutcomeUnknown):
            known = await self._ask((tenant, table), delegation)
            if known is None:
                raise CatalogUnavailable("The table could not be made. Nothing was taken; try again.") from None
            return known
