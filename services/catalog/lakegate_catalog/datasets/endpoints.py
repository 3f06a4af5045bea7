"""HTTP of /v1/datasets."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Response

from lakegate_catalog.datasets.schemas import (
    Dataset,
    DatasetCreate,
    DatasetPage,
    DatasetPatch,
    SchemaDiff,
    VersionPage,
)
from lakegate_catalog.datasets.state import read, wire
from lakegate_catalog.deps import Services
from lakegate_catalog.errors import DatasetModified, InvalidCursor
from lakegate_catalog.store.port import Change
from lakegate_chassis.auth import Caller, require
from lakegate_chassis.numerals import natural
from lakegate_chassis.problems import FieldError, InvalidRequest
from lakegate_contracts.identity import Principal, Scope

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

DatasetId = Annotated[UUID, Path(description="opaque; find it by ?namespace=&name= or by search")]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=4000)]
Version = Annotated[int, Query(ge=1, lt=2**31)]


@router.get("", response_model=DatasetPage)
async def list_datasets(
    principal: Caller,
    services: Services,
    namespace: Annotated[str | None, Query(max_length=1200)] = None,
    name: Annotated[str | None, Query(max_length=1200)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """With namespace and name the one dataset of that OpenLineage pair (or none), else a page of them by name."""
    require(principal, Scope.DATASETS_READ)
    if name is not None:
        if namespace is None:
            raise InvalidRequest(
                "A name is looked up together with its namespace; to look for a name alone use /v1/search?q=.",
                errors=[FieldError(detail="missing", pointer="?namespace")],
            )
        found = await services.datasets.find(principal.tenant, namespace, name)
        if found is None or not principal.allows(Scope.DATASETS_READ, read(found).area):
            return {"items": [], "next": None}
        return {"items": [wire(read(found), found.sequence)], "next": None}
    changes = await services.datasets.page(principal, namespace, _after(cursor), limit)
    more = len(changes) == limit and changes[-1].key
    items = [wire(read(change), change.sequence) for change in changes]
    return {"items": items, "next": _cursor(changes[-1].key or "") if more else None}


@router.post("", response_model=Dataset, status_code=201)
async def register_dataset(
    principal: Caller, services: Services, wanted: DatasetCreate, response: Response
) -> dict[str, Any]:
    """Make a node for something that lives elsewhere, so that it can be found, owned and drawn in lineage."""
    require(principal, Scope.DATASETS_WRITE, wanted.namespace)
    created = await services.datasets.register(principal.tenant, wanted, principal.subject)
    response.headers["location"] = f"/v1/datasets/{created.entity_id}"
    return _answer(created, response)


@router.get("/{dataset_id}", response_model=Dataset)
async def get_dataset(
    principal: Caller,
    services: Services,
    dataset_id: DatasetId,
    response: Response,
    if_none_match: Annotated[str | None, Header(max_length=200)] = None,
) -> Any:
    change = await services.datasets.get(principal.tenant, dataset_id)
    _permit(principal, Scope.DATASETS_READ, change)
    if if_none_match == _etag(change):
        return Response(status_code=304, headers={"etag": _etag(change)})
    return _answer(change, response)


@router.patch("/{dataset_id}", response_model=Dataset)
async def describe_dataset(
    principal: Caller,
    services: Services,
    dataset_id: DatasetId,
    patch: DatasetPatch,
    response: Response,
    if_match: Annotated[str | None, Header(max_length=200, description="the ETag that was read")] = None,
) -> dict[str, Any]:
    """Set owner, description and tags. With If-Match it changes nothing unless the version is still that one."""
    current = await services.datasets.get(principal.tenant, dataset_id)
    _permit(principal, Scope.DATASETS_WRITE, current)
    described = await services.datasets.describe(
        principal.tenant, dataset_id, patch, expected=_expected(if_match), actor=principal.subject
    )
    return _answer(described, response)


@router.get("/{dataset_id}/versions", response_model=VersionPage)
async def list_versions(
    principal: Caller, services: Services, dataset_id: DatasetId, limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """Every change with the schema and snapshot from then on, newest first."""
    _permit(principal, Scope.DATASETS_READ, await services.datasets.get(principal.tenant, dataset_id))
    before = None
    if cursor is not None:
        after = natural(_after(cursor))
        if after is None:
            raise InvalidCursor("The cursor is not one of ours; use `next` as it was given.")
        before = min(after, 2**31 - 1)
    changes = await services.datasets.versions(principal.tenant, dataset_id, before=before, limit=limit)
    more = len(changes) == limit and changes[-1].sequence > 1
    return {
        "items": [_version(change) for change in changes],
        "next": _cursor(str(changes[-1].sequence)) if more else None,
    }


@router.get("/{dataset_id}/diff", response_model=SchemaDiff)
async def diff_versions(
    principal: Caller,
    services: Services,
    dataset_id: DatasetId,
    from_: Annotated[int, Query(alias="from", ge=1, lt=2**31)],
    to: Version,
) -> SchemaDiff:
    """Columns that were added, removed and changed from one version to another."""
    _permit(principal, Scope.DATASETS_READ, await services.datasets.get(principal.tenant, dataset_id))
    return await services.datasets.diff(principal.tenant, dataset_id, from_, to)


def _permit(principal: Principal, scope: Scope, change: Change) -> None:
    require(principal, scope, read(change).area)


def _answer(change: Change, response: Response) -> dict[str, Any]:
    response.headers["etag"] = _etag(change)
    if change.position is not None:
        response.headers["lakegate-consistency-token"] = str(change.position)
    return wire(read(change), change.sequence)


def _etag(change: Change) -> str:
    return f'"{change.sequence}"'


def _expected(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'"?(\d{1,10})"?', if_match.strip())
    if not found:
        raise DatasetModified(f"If-Match {if_match} is no version of this dataset; use the ETag as it was given.")
    return int(found[1])


def _version(change: Change) -> dict[str, Any]:
    state = read(change)
    snapshot = state.table.snapshot if state.table else None
    return {
        "version": change.sequence,
        "kind": change.kind,
        "changed_at": change.changed_at,
        "changed_by": state.updated_by,
        "name": state.name,
        "schema": {"fields": state.columns},
        "snapshot_id": snapshot.id if snapshot else None,
        "snapshot": snapshot.model_dump() if snapshot else None,
    }


def _cursor(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode().rstrip("=")


def _after(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidCursor("The cursor is not one of ours; use `next` as it was given.") from error
