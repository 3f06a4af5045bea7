"""SQL of column lineage. Columns are pairs of a dataset's id and a name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

ColumnKey = tuple[UUID, str]

SOURCES = """
SELECT e.dataset_id, e.field, e.source_id, e.source_field
FROM unnest($1::uuid[], $2::text[]) AS near (id, field)
JOIN column_edges e ON e.dataset_id = near.id AND e.field = near.field
ORDER BY 1, 2, 3, 4 LIMIT $3
"""
TARGETS = """
SELECT e.source_id, e.source_field, e.dataset_id, e.field
FROM unnest($1::uuid[], $2::text[]) AS near (id, field)
JOIN column_edges e ON e.source_id = near.id AND e.source_field = near.field
ORDER BY 1, 2, 3, 4 LIMIT $3
"""
COLUMNS = """
SELECT dataset_id, field FROM column_edges WHERE dataset_id = ANY($1::uuid[])
UNION
SELECT source_id, source_field FROM column_edges WHERE source_id = ANY($1::uuid[])
ORDER BY 2, 1
"""


async def edges_at(
    connection: Any, columns: Collection[ColumnKey], *, up: bool, limit: int
) -> list[tuple[ColumnKey, ColumnKey]]:
    """Pairs (near, far): near one of `columns`, far a column that it is made of (up) or that is made of it."""
    ids, names = [column[0] for column in columns], [column[1] for column in columns]
    rows = await connection.fetch(SOURCES if up else TARGETS, ids, names, limit)
    return [((row[0], row[1]), (row[2], row[3])) for row in rows]


async def columns_of(connection: Any, ids: list[UUID]) -> list[ColumnKey]:
    """The columns of datasets that take part in column lineage, by name."""
    return [(row[0], row[1]) for row in await connection.fetch(COLUMNS, ids)]
