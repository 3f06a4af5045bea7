"""The namespace of a node that a scope's pattern (`lineage:read@travel.*`) is held against.

A table of ours counts by its table's namespace (`travel` of travel.flights), and a load of ours by that of the
table it loads; everything else by the OpenLineage namespace that it carries.
"""

from __future__ import annotations

from typing import Any

from lakegate_contracts.identity import Principal, Scope

OURS = "lakegate://"
LOAD = "load."  # ingest names its jobs load.<table>


def is_ours(tenant: str, namespace: str) -> bool:
    """Whether it is the namespace of the tenant's own tables."""
    return namespace == f"{OURS}{tenant}"


def dataset_scope(tenant: str, namespace: str, name: str) -> str:
    if is_ours(tenant, namespace):
        return name.rpartition(".")[0] or name
    return namespace


def job_scope(tenant: str, namespace: str, name: str) -> str:
    if is_ours(tenant, namespace) and name.startswith(LOAD):
        return dataset_scope(tenant, namespace, name.removeprefix(LOAD))
    return namespace


def may_read(principal: Principal, namespace: str, name: str) -> bool:
    """Whether the principal may read about a dataset of that name."""
    return principal.allows(Scope.LINEAGE_READ, dataset_scope(principal.tenant, namespace, name))


def readable(principal: Principal, datasets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the datasets (namespace, name, …) that the principal may read about."""
    return [dataset for dataset in datasets if may_read(principal, dataset["namespace"], dataset["name"])]
