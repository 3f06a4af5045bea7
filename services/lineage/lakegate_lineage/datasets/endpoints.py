"""GET /v1/lineage/datasets."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from lakegate_chassis.auth import require
from lakegate_chassis.postgres import tenant_transaction
from lakegate_contracts.identity import Scope
from lakegate_lineage import identity
from lakegate_lineage.datasets import queries
from lakegate_lineage.datasets.aliases import Aliases
from lakegate_lineage.datasets.schemas import LineageDataset
from lakegate_lineage.deps import Caller, Pool
from lakegate_lineage.errors import DatasetUnknown
from lakegate_lineage.facets import to_facets
from lakegate_lineage.scopes import dataset_scope

router = APIRouter(prefix="/v1/lineage", tags=["Lineage"])

Name = Annotated[str, Query(min_length=1, max_length=2000)]


@router.get("/datasets", response_model=LineageDataset)
async def get_dataset(caller: Caller, pool: Pool, namespace: Name, name: Name) -> dict[str, Any]:
    """What events say about one dataset, found by any of its names: facets (schema) and writes (versions).

    What is told of it under names that the token may not read is left out.
    """
    require(caller, Scope.LINEAGE_READ, dataset_scope(caller.tenant, namespace, name))
    asked = identity.dataset_id(namespace, name)
    async with tenant_transaction(pool, caller.tenant) as connection:
        aliases = await Aliases.open(connection, caller.tenant)
        await aliases.resolve([asked])
        group = aliases.members(aliases.root(asked))
        rows = await queries.describe_datasets(connection, group)
        members = aliases.readable(caller, group, rows)
        if rows.keys().isdisjoint(members):
            raise DatasetUnknown(f"No event has named the dataset '{name}' in '{namespace}'. Names are case-sensitive.")
        facets = await queries.facets_of(connection, members)
        versions = await queries.versions_of(connection, members)
    chosen = aliases.spokesman(members, rows)
    names = {member: aliases.name(member, rows) for member in members}
    own = names.pop(chosen)
    assert own is not None  # the spokesman has a row or a symlink's name
    return {
        "id": chosen,
        "namespace": own[0],
        "name": own[1],
        "aliases": [{"namespace": one, "name": other} for one, other in sorted(filter(None, names.values()))],
        "facets": to_facets(facets),
        "versions": [dict(version) for version in versions],
    }
