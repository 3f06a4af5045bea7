"""Walking from columns to the columns they are made of, and to those that are made of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from lakegate_contracts.identity import Principal
from lakegate_lineage import identity
from lakegate_lineage.columns import queries
from lakegate_lineage.columns.queries import ColumnKey
from lakegate_lineage.datasets.aliases import Aliases
from lakegate_lineage.datasets.queries import describe_datasets
from lakegate_lineage.errors import ColumnUnknown
from lakegate_lineage.limits import EDGES_PER_NODE
from lakegate_lineage.schemas import Direction


class ColumnWalk:
    """What was reached so far; a column's key holds its dataset's group."""

    def __init__(self, connection: Any, aliases: Aliases, limit: int) -> None:
        self._connection = connection
        self._aliases = aliases
        self._limit = limit
        self.columns: dict[ColumnKey, int] = {}
        self.told_by: dict[ColumnKey, set[UUID]] = {}  # the names of the dataset that have the column
        self.edges: dict[tuple[ColumnKey, ColumnKey], None] = {}
        self.truncated = False

    async def expand(
        self, frontier: list[ColumnKey], seen: set[ColumnKey], distance: int, *, up: bool
    ) -> list[ColumnKey]:
        """One edge further; the columns not seen in this direction."""
        asked = {(member, name): (root, name) for root, name in frontier for member in self._aliases.members(root)}
        budget = self._limit * EDGES_PER_NODE
        pairs = await queries.edges_at(self._connection, asked, up=up, limit=budget + 1)
        self.truncated |= len(pairs) > budget
        await self._aliases.resolve(far[0] for _, far in pairs)
        fresh: dict[ColumnKey, None] = {}
        for member, found in pairs[:budget]:
            near, far = asked[member], (self._aliases.root(found[0]), found[1])
            self.told_by.setdefault(near, set()).add(member[0])
            self.told_by.setdefault(far, set()).add(found[0])
            if far not in self.columns:
                if len(self.columns) >= self._limit:
                    self.truncated = True
                    continue
                self.columns[far] = -distance if up else distance
            if far not in seen:
                seen.add(far)
                fresh[far] = None
            self.edges[(far, near) if up else (near, far)] = None
        return list(fresh)


async def find_columns(
    connection: Any, principal: Principal, aliases: Aliases, namespace: str, name: str, column: str | None
) -> dict[ColumnKey, set[UUID]]:
    """The column, or all of the dataset, with the readable names of the dataset that have it. Raises ColumnUnknown."""
    asked = identity.dataset_id(namespace, name)
    await aliases.resolve([asked])
    root = aliases.root(asked)
    rows = await describe_datasets(connection, aliases.members(root))
    found: dict[ColumnKey, set[UUID]] = {}
    for member, field in await queries.columns_of(connection, aliases.readable(principal, rows, rows)):
        if column is None or field == column:
            found.setdefault((root, field), set()).add(member)
    if not found:
        what = f"the column '{column}' of" if column else "columns of"
        raise ColumnUnknown(
            f"No event has told the lineage of {what} '{name}' in '{namespace}'. It comes in the columnLineage facet "
            "of an output, which not every producer sends."
        )
    return found


async def walk_columns(
    connection: Any,
    aliases: Aliases,
    found: dict[ColumnKey, set[UUID]],
    direction: Direction,
    depth: int,
    limit: int,
) -> ColumnWalk:
    """From what find_columns found."""
    walk = ColumnWalk(connection, aliases, limit)
    starts = list(found)[:limit]
    walk.truncated = len(found) > limit
    walk.columns = dict.fromkeys(starts, 0)
    walk.told_by = {start: found[start] for start in starts}
    ups = [up for up, other in ((True, Direction.DOWN), (False, Direction.UP)) if direction != other]
    frontiers = dict.fromkeys(ups, starts)
    seen = {up: set(starts) for up in ups}
    for distance in range(1, depth + 1):
        for up in ups:
            if frontiers[up]:
                frontiers[up] = await walk.expand(frontiers[up], seen[up], distance, up=up)
    return walk


async def describe(connection: Any, principal: Principal, walk: ColumnWalk, aliases: Aliases) -> dict[str, Any]:
    """The wire form of the walk (schemas.ColumnGraph). Names that the principal may not read are left out."""
    groups = {root: aliases.members(root) for root, _ in walk.columns}
    rows = await describe_datasets(connection, (member for members in groups.values() for member in members))
    ids: dict[ColumnKey, UUID] = {}
    nodes: list[dict[str, Any]] = []
    for (root, column), distance in sorted(walk.columns.items(), key=lambda item: (abs(item[1]), item[1], item[0])):
        readable = aliases.readable(principal, walk.told_by[root, column], rows)
        # the node is the dataset's, by the name it has for this reader
        shown = aliases.readable(principal, groups[root], rows) if readable else []
        dataset_id = aliases.spokesman(shown or groups[root], rows)
        name = aliases.name(dataset_id, rows) if shown else None
        ids[root, column] = uuid5(dataset_id, column)
        nodes.append(
            {
                "id": ids[root, column],
                "namespace": name[0] if name else "",
                "name": name[1] if name else "",
                "column": column if name else "",
                "distance": distance,
                "restricted": name is None,
            }
        )
    nodes.sort(
        key=lambda node: (abs(node["distance"]), node["distance"], node["namespace"], node["name"], node["column"])
    )
    return {
        "nodes": nodes,
        "edges": [{"from": ids[one], "to": ids[other]} for one, other in walk.edges],
        "truncated": walk.truncated,
    }
