"""One dataset under several names: what a symlinks facet joins is one node, whichever name was used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from lakegate_contracts.identity import Principal
from lakegate_lineage.datasets import queries
from lakegate_lineage.scopes import is_ours, may_read

Links = dict[UUID, dict[UUID, bool]]  # both ways; the value: whether a service of ours told of the link


class Aliases:
    """The groups of names met so far; a group is resolved whole, and one of its ids stands for it.

    A table of ours is always a group of its own: links that would join two of them are cut (`_share`), since
    whoever may write one table would otherwise take the place of another.
    """

    def __init__(self, connection: Any, tenant: str, *, known: bool) -> None:
        self._connection = connection
        self._tenant = tenant
        self._known = known
        self._root: dict[UUID, UUID] = {}
        self._members: dict[UUID, list[UUID]] = {}
        self._names: dict[UUID, tuple[str, str]] = {}
        self._aliases: set[UUID] = set()

    @classmethod
    async def open(cls, connection: Any, tenant: str) -> Aliases:
        """Many tenants have no symlinks at all; then no level asks for them."""
        return cls(connection, tenant, known=await queries.has_symlinks(connection))

    async def resolve(self, ids: Iterable[UUID]) -> None:
        """Find the whole group of each id."""
        fresh = {dataset_id for dataset_id in ids if dataset_id not in self._root}
        links: Links = {dataset_id: {} for dataset_id in fresh}
        asked: set[UUID] = set()
        while self._known and (frontier := links.keys() - asked):
            asked |= frontier
            for link in await queries.symlinks_at(self._connection, frontier):
                one, other = links.setdefault(link.dataset_id, {}), links.setdefault(link.alias_id, {})
                told = link.own or one.get(link.alias_id, False)  # the two may name each other
                one[link.alias_id] = other[link.dataset_id] = told
                self._names[link.dataset_id] = (link.dataset_namespace, link.dataset_name)
                self._names[link.alias_id] = (link.namespace, link.name)
                self._aliases.add(link.alias_id)
        for dataset_id in fresh:
            if dataset_id not in self._root:
                self._collect(dataset_id, links)

    def _collect(self, start: UUID, links: Links) -> None:
        joined = {start: None}
        reached = [start]
        for member in reached:
            new = [other for other in links[member] if other not in joined]
            joined.update(dict.fromkeys(new))
            reached += new
        tables = sorted((member for member in joined if self._is_table(member)), key=self._names.__getitem__)
        roots = (
            _share(tables, links) if len(tables) > 1 else dict.fromkeys(joined, tables[0] if tables else min(joined))
        )
        for member in sorted(roots):
            self._root[member] = roots[member]
            self._members.setdefault(roots[member], []).append(member)

    def _is_table(self, dataset_id: UUID) -> bool:
        name = self._names.get(dataset_id)
        return name is not None and is_ours(self._tenant, name[0])

    def root(self, dataset_id: UUID) -> UUID:
        """The id that stands for the group in this walk: our table's, if it has one."""
        return self._root[dataset_id]

    def members(self, root: UUID) -> list[UUID]:
        return self._members[root]

    def name(self, dataset_id: UUID, rows: Mapping[UUID, Any]) -> tuple[str, str] | None:
        """Namespace and name, from the dataset's own row or from a symlink to it."""
        row = rows.get(dataset_id)
        return (row["namespace"], row["name"]) if row else self._names.get(dataset_id)

    def readable(self, principal: Principal, members: Iterable[UUID], rows: Mapping[UUID, Any]) -> list[UUID]:
        """Those of the members that the principal may read about, by the name of each."""
        named = ((member, self.name(member, rows)) for member in members)
        return [member for member, name in named if name and may_read(principal, *name)]

    def spokesman(self, members: Collection[UUID], rows: Mapping[UUID, Any]) -> UUID:
        """The member whose name the node carries: our table, else the name that events use, else the first."""

        def rank(member: UUID) -> tuple[bool, bool, bool, tuple[str, str]]:
            name = self.name(member, rows) or ("", "")
            return not is_ours(self._tenant, name[0]), member not in rows, member in self._aliases, name

        return min(members, key=rank)


def _share(tables: list[UUID], links: Links) -> dict[UUID, UUID]:
    """The table that each name goes to, where links join several tables of ours.

    A name goes to the nearest table, by links that our services told of before those that a caller did; of two
    as near, to the first by name. So nobody can draw a table's location away from it.
    """
    roots = {table: table for table in tables}
    for own_only in (True, False):
        level = list(roots)
        for member in level:  # grows while it is read: breadth first
            for other in sorted(links[member]):
                if other not in roots and (links[member][other] or not own_only):
                    roots[other] = roots[member]
                    level.append(other)
    return roots
