"""Walking the graph from one node, level by level, within a depth and a budget of nodes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from lakegate_contracts.identity import Principal, Scope
from lakegate_lineage import identity
from lakegate_lineage.datasets.aliases import Aliases
from lakegate_lineage.datasets.queries import describe_datasets
from lakegate_lineage.errors import DatasetUnknown, JobUnknown
from lakegate_lineage.graph import queries
from lakegate_lineage.limits import EDGES_PER_NODE
from lakegate_lineage.schemas import Direction
from lakegate_lineage.scopes import job_scope


class Walk:
    """What was reached so far. `nodes` maps an id (of a dataset: its group's) to the distance from the start."""

    def __init__(self, connection: Any, aliases: Aliases, limit: int) -> None:
        self._connection = connection
        self._aliases = aliases
        self._limit = limit
        self.jobs: dict[UUID, int] = {}
        self.datasets: dict[UUID, int] = {}
        self.edges: dict[tuple[UUID, UUID], None] = {}
        self.truncated = False

    @property
    def size(self) -> int:
        return len(self.jobs) + len(self.datasets)

    async def expand_datasets(self, frontier: list[UUID], seen: set[UUID], distance: int, *, up: bool) -> list[UUID]:
        """From datasets to the jobs that write (up) or read (down) them; the jobs not seen in this direction."""
        members = {member: root for root in frontier for member in self._aliases.members(root)}
        rows = await queries.jobs_of_datasets(self._connection, members, writers=up, limit=self._row_budget + 1)
        return self._take([(members[near], far) for near, far in self._cut(rows)], self.jobs, seen, distance, up=up)

    async def expand_jobs(self, frontier: list[UUID], seen: set[UUID], distance: int, *, up: bool) -> list[UUID]:
        """From jobs to the datasets that they read (up) or write (down)."""
        rows = await queries.datasets_of_jobs(self._connection, frontier, written=not up, limit=self._row_budget + 1)
        rows = self._cut(rows)
        await self._aliases.resolve(far for _, far in rows)
        pairs = [(near, self._aliases.root(far)) for near, far in rows]
        return self._take(pairs, self.datasets, seen, distance, up=up)

    @property
    def _row_budget(self) -> int:
        return self._limit * EDGES_PER_NODE

    def _cut(self, rows: list[Any]) -> list[Any]:
        if len(rows) > self._row_budget:
            self.truncated = True
        return rows[: self._row_budget]

    def _take(
        self, pairs: list[tuple[UUID, UUID]], known: dict[UUID, int], seen: set[UUID], distance: int, *, up: bool
    ) -> list[UUID]:
        fresh: dict[UUID, None] = {}
        for near, far in pairs:
            if far not in known:
                if self.size >= self._limit:
                    self.truncated = True
                    continue
                known[far] = -distance if up else distance
            if far not in seen:
                seen.add(far)
                fresh[far] = None
            self.edges[(far, near) if up else (near, far)] = None
        return list(fresh)


async def walk_from_dataset(
    connection: Any, aliases: Aliases, namespace: str, name: str, direction: Direction, depth: int, limit: int
) -> Walk:
    """Raises DatasetUnknown."""
    asked = identity.dataset_id(namespace, name)
    await aliases.resolve([asked])
    start = aliases.root(asked)
    if len(aliases.members(start)) == 1 and not await describe_datasets(connection, [asked]):
        raise DatasetUnknown(
            f"No event has named the dataset '{name}' in '{namespace}'. Names are case-sensitive; a table of ours is "
            "in the namespace lakegate://<tenant>, named as in travel.flights."
        )
    walk = Walk(connection, aliases, limit)
    walk.datasets[start] = 0
    await _walk(walk, start, direction, depth, from_dataset=True)
    return walk


async def walk_from_job(
    connection: Any, aliases: Aliases, namespace: str, name: str, direction: Direction, depth: int, limit: int
) -> Walk:
    """Raises JobUnknown."""
    start = identity.job_id(namespace, name)
    if not await queries.describe_jobs(connection, [start]):
        raise JobUnknown(f"No event has named the job '{name}' in '{namespace}'. Names are case-sensitive.")
    walk = Walk(connection, aliases, limit)
    walk.jobs[start] = 0
    await _walk(walk, start, direction, depth, from_dataset=False)
    return walk


async def _walk(walk: Walk, start: UUID, direction: Direction, depth: int, *, from_dataset: bool) -> None:
    """Both directions take turns, so that a wide one does not use up the budget before the other begins."""
    frontiers: dict[bool, list[UUID]] = {}
    if direction != Direction.DOWN:
        frontiers[True] = [start]
    if direction != Direction.UP:
        frontiers[False] = [start]
    # what is upstream may also be downstream: each direction follows its own way
    seen: dict[bool, set[UUID]] = {up: {start} for up in frontiers}
    for distance in range(1, depth + 1):
        at_datasets = from_dataset == (distance % 2 == 1)
        for up, frontier in frontiers.items():
            if frontier:
                expand = walk.expand_datasets if at_datasets else walk.expand_jobs
                frontiers[up] = await expand(frontier, seen[up], distance, up=up)


async def describe(connection: Any, principal: Principal, walk: Walk, aliases: Aliases) -> dict[str, Any]:
    """The wire form of the walk (schemas.Graph). What the principal may not read is left out, name by name."""
    jobs = await queries.describe_jobs(connection, walk.jobs)
    members = {root: aliases.members(root) for root in walk.datasets}
    rows = await describe_datasets(connection, (member for group in members.values() for member in group))
    wire_id: dict[UUID, UUID] = {}
    nodes = []
    for job_id, distance in walk.jobs.items():
        name = (jobs[job_id]["namespace"], jobs[job_id]["name"])
        visible = principal.allows(Scope.LINEAGE_READ, job_scope(principal.tenant, *name))
        nodes.append(_node("job", job_id, [name] if visible else [], [jobs[job_id]], distance))
    for root, distance in walk.datasets.items():
        readable = aliases.readable(principal, members[root], rows)
        chosen = wire_id[root] = aliases.spokesman(readable or members[root], rows)
        others = {member: aliases.name(member, rows) for member in readable}
        own = others.pop(chosen, None)
        runs = [rows[member] for member in readable if member in rows]
        nodes.append(
            _node("dataset", chosen, [own, *sorted(filter(None, others.values()))] if own else [], runs, distance)
        )
    nodes.sort(key=lambda node: (abs(node["distance"]), node["distance"], node["namespace"], node["name"]))
    return {
        "nodes": nodes,
        "edges": [{"from": wire_id.get(one, one), "to": wire_id.get(other, other)} for one, other in walk.edges],
        "truncated": walk.truncated,
    }


def _node(kind: str, node_id: UUID, names: list[tuple[str, str]], runs: list[Any], distance: int) -> dict[str, Any]:
    """`names`: those that may be shown, the node's own first; none for a restricted node."""
    namespace, name = names[0] if names else ("", "")
    latest = max((run for run in runs if run["run_id"]), key=lambda run: run["state_at"], default=None)
    return {
        "id": node_id,
        "type": kind,
        "namespace": namespace,
        "name": name,
        "aliases": [{"namespace": one, "name": other} for one, other in names[1:]],
        "distance": distance,
        "last_run": {"id": latest["run_id"], "state": latest["state"], "at": latest["state_at"]}
        if latest and names
        else None,
        "restricted": not names,
    }
