"""Walking from columns to the columns they are made of, and to those that are made of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from lakegate_contracts.identity import Principal, Scope
from lakegate_lineage import identity
from lakegate_lineage.columns import queries
from lakegate_lineage.columns.queries import ColumnKey
from lakegate_lineage.datasets.aliases import Aliases
from lakegate_lineage.datasets.queries import describe_datasets
from lakegate_lineage.errors import ColumnUnknown
from lakegate_lineage.limits import EDGES_PER_NODE
from lakegate_lineage.schemas import Direction
from lakegate_lineage.scopes import dataset_scope


class ColumnWalk:
    """What was reached so far; a column's key holds its dataset's group."""

    def __init__(self, connection: Any, aliases: Aliases, limit: int) -> None:
        self._connection = connection
        self._aliases = aliases
        self._limit = limit
        self.columns: dict[ColumnKey, int] = {}
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


async def walk_columns(
    connection: Any, namespace: str, name: str, column: str | None, direction: Direction, depth: int, limit: int
) -> tuple[ColumnWalk, Aliases]:
    """From one column, or from all of a dataset. Raises ColumnUnknown."""
    aliases = await Aliases.open(connection)
    start = identity.dataset_id(namespace, name)
    await aliases.resolve([start])
    known = await queries.columns_of(connection, aliases.members(start))
    chosen = known if column is None else [each for each in known if each == column]
    if not chosen:
        what = f"the column '{column}' of" if column else "columns of"
        raise ColumnUnknown(
            f"No event has told the lineage of {what} '{name}' in '{namespace}'. It comes in the columnLineage facet "
            "of an output, which not every producer sends."
        )
    walk = ColumnWalk(connection, aliases, limit)
    starts = [(start, each) for each in chosen[:limit]]
    walk.truncated = len(chosen) > limit
    walk.columns = dict.fromkeys(starts, 0)
    ups = [up for up, other in ((True, Direction.DOWN), (False, Direction.UP)) if direction != other]
    frontiers = dict.fromkeys(ups, starts)
    seen = {up: set(starts) for up in ups}
    for distance in range(1, depth + 1):
        for up in ups:
            if frontiers[up]:
                frontiers[up] = await walk.expand(frontiers[up], seen[up], distance, up=up)
    return walk, aliases


async def describe(connection: Any, principal: Principal, walk: ColumnWalk, aliases: Aliases) -> dict[str, Any]:
    """The wire form of the walk (schemas.ColumnGraph). Names that the principal may not read are left out."""
    groups = {root: aliases.members(root) for root, _ in walk.columns}
    rows = await describe_datasets(connection, (member for members in groups.values() for member in members))
    ids: dict[ColumnKey, UUID] = {}
    nodes: list[dict[str, Any]] = []
    for (root, column), distance in sorted(walk.columns.items(), key=lambda item: (abs(item[1]), item[1], item[0])):
        dataset_id = aliases.spokesman(groups[root], rows)
        name = aliases.name(dataset_id, rows)
        assert name is not None  # every end of a column edge has a dataset's row
        ids[root, column] = uuid5(dataset_id, column)
        visible = principal.allows(Scope.LINEAGE_READ, dataset_scope(principal.tenant, *name))
        nodes.append(
            {
                "id": ids[root, column],
                "namespace": name[0] if visible else "",
                "name": name[1] if visible else "",
                "column": column if visible else "",
                "distance": distance,
                "restricted": not visible,
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
