"""One dataset under several names: what a symlinks facet joins is one node, whichever name was used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from lakegate_lineage.datasets import queries
from lakegate_lineage.scopes import OURS


class Aliases:
    """The groups of names met so far; a group is resolved whole, and its first id stands for it."""

    def __init__(self, connection: Any, *, known: bool) -> None:
        self._connection = connection
        self._known = known
        self._root: dict[UUID, UUID] = {}
        self._members: dict[UUID, list[UUID]] = {}
        self._aliases: dict[UUID, tuple[str, str]] = {}

    @classmethod
    async def open(cls, connection: Any) -> Aliases:
        """Many tenants have no symlinks at all; then no level asks for them."""
        return cls(connection, known=await queries.has_symlinks(connection))

    async def resolve(self, ids: Iterable[UUID]) -> None:
        """Find the whole group of each id."""
        fresh = {dataset_id for dataset_id in ids if dataset_id not in self._root}
        links: dict[UUID, set[UUID]] = {dataset_id: set() for dataset_id in fresh}
        asked: set[UUID] = set()
        while self._known and (frontier := links.keys() - asked):
            asked |= frontier
            for link in await queries.symlinks_at(self._connection, frontier):
                links.setdefault(link.dataset_id, set()).add(link.alias_id)
                links.setdefault(link.alias_id, set()).add(link.dataset_id)
                self._aliases[link.alias_id] = (link.namespace, link.name)
        # in the order of the ids, so that the same graph is walked the same way each time
        for dataset_id in sorted(fresh):
            if dataset_id not in self._root:
                self._collect(dataset_id, links)

    def _collect(self, root: UUID, links: Mapping[UUID, set[UUID]]) -> None:
        members = [root]
        self._root[root] = root
        for member in members:
            for other in sorted(links[member]):
                if other not in self._root:
                    self._root[other] = root
                    members.append(other)
        self._members[root] = members

    def root(self, dataset_id: UUID) -> UUID:
        """The id that stands for the group in this walk."""
        return self._root[dataset_id]

    def members(self, root: UUID) -> list[UUID]:
        return self._members[root]

    def name(self, dataset_id: UUID, rows: Mapping[UUID, Any]) -> tuple[str, str] | None:
        """Namespace and name, from the dataset's own row or from a symlink to it."""
        row = rows.get(dataset_id)
        return (row["namespace"], row["name"]) if row else self._aliases.get(dataset_id)

    def spokesman(self, members: Collection[UUID], rows: Mapping[UUID, Any]) -> UUID:
        """The member whose name the node carries: our table, else the name that events use, else the first."""

        def rank(member: UUID) -> tuple[bool, bool, bool, tuple[str, str]]:
            name = self.name(member, rows) or ("", "")
            return not name[0].startswith(OURS), member not in rows, member in self._aliases, name

        return min(members, key=rank)
