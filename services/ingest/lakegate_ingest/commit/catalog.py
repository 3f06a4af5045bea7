"""The catalog as ingest sees it: the Iceberg REST endpoints, by HTTP, with outcomes told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import orjson
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.table.update import TableRequirement, TableUpdate

from lakegate_chassis.threads import in_thread
from lakegate_contracts.names import TableName
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.errors import CatalogRefused, CatalogUnavailable, TableFileMissing

LEVEL_SEPARATOR = "\x1f"  # Iceberg REST spec: levels of a namespace in a path
VERSION_HEADER = "lakegate-catalog-version"
TOKEN_HEADER = "lakegate-consistency-token"
FILE_MISSING = "NotFoundException"  # with 422: the table is there, its metadata file is not


class NoSuchTable(Exception):
    """The catalog has no such table (or no such namespace)."""


class Conflict(Exception):
    """The catalog answered 409: a requirement does not hold, or the name is taken."""


class OutcomeUnknown(Exception):
    """The request may or may not have been carried out: no answer, a cut connection, or 5xx."""


@dataclass(frozen=True)
class LoadedTable:
    """Table metadata as the catalog answers it, with the dataset's version and search token where it gives them."""

    table: TableName
    metadata: TableMetadata
    metadata_location: str | None
    catalog_version: int | None
    consistency_token: str | None


class Catalog:
    """One caller's view of the catalog: each request carries a token exchanged for that caller's delegation."""

    def __init__(self, client: httpx.AsyncClient, tokens: TokenExchange, *, timeout_seconds: float) -> None:
        self._client = client
        self._tokens = tokens
        self._timeout = timeout_seconds

    async def answers(self) -> bool:
        """Whether the catalog is there at all."""
        try:
            return (await self._client.get("/livez", timeout=2.0)).is_success
        except httpx.HTTPError:
            return False

    async def load(self, tenant: str, table: TableName, delegation: str) -> LoadedTable:
        """Raises NoSuchTable, TableFileMissing, CatalogRefused, CatalogUnavailable."""
        answer = await self._send("GET", _table_path(tenant, table), delegation)
        if answer.status_code == 404:
            raise NoSuchTable(str(table))
        _refuse(answer)
        return await _loaded(table, answer)

    async def name_of(self, tenant: str, table_uuid: UUID, delegation: str) -> TableName | None:
        """What the table is called now: a table is a dataset whose id is its UUID. None when there is none.

        Raises CatalogRefused, CatalogUnavailable.
        """
        answer = await self._send("GET", f"/v1/datasets/{table_uuid}", delegation)
        if answer.status_code == 404:
            return None
        _refuse(answer)
        return TableName.parse(orjson.loads(answer.content)["name"])

    async def ensure_namespace(self, tenant: str, table: TableName, delegation: str) -> None:
        """Create the namespace and those above it; one that is there already is fine."""
        for depth in range(1, len(table.levels) + 1):
            body = {"namespace": list(table.levels[:depth]), "properties": {}}
            answer = await self._send("POST", f"{_prefix(tenant)}/namespaces", delegation, body)
            if answer.status_code != 409:
                _refuse(answer)

    async def stage(self, tenant: str, table: TableName, schema: Schema, delegation: str) -> LoadedTable:
        """Metadata for a table that does not exist yet; nothing is stored. Raises Conflict when it does exist."""
        body = {
            "name": table.name,
            "schema": schema.model_dump(by_alias=True),
            "stage-create": True,
            "properties": {"format-version": "2"},
        }
        path = f"{_prefix(tenant)}/namespaces/{_namespace(table)}/tables"
        answer = await self._send("POST", path, delegation, body)
        if answer.status_code == 409:
            raise Conflict(_message(answer))
        _refuse(answer)
        return await _loaded(table, answer)

    async def commit(
        self,
        tenant: str,
        table: TableName,
        requirements: Sequence[TableRequirement],
        updates: Sequence[TableUpdate],
        delegation: str,
    ) -> LoadedTable:
        """Iceberg REST 'updateTable'.

        Raises Conflict, OutcomeUnknown, NoSuchTable, TableFileMissing, CatalogRefused, CatalogUnavailable.
        """
        body = {
            "identifier": {"namespace": list(table.levels), "name": table.name},
            "requirements": [requirement.model_dump(mode="json", by_alias=True) for requirement in requirements],
            "updates": [update.model_dump(mode="json", by_alias=True, exclude_none=True) for update in updates],
        }
        try:
            answer = await self._request("POST", _table_path(tenant, table), delegation, body)
        except httpx.ConnectError as error:
            raise CatalogUnavailable(
                "The catalog can't be reached; the load is kept and committed when it is back."
            ) from error
        except httpx.HTTPError as error:
            raise OutcomeUnknown(type(error).__name__) from error
        if answer.status_code == 409:
            raise Conflict(_message(answer))
        if answer.status_code == 404:
            raise NoSuchTable(str(table))
        if answer.status_code == 503:
            # Sent only before anything was done (the project's rule for an Iceberg commit): still, look first.
            raise OutcomeUnknown("503")
        if answer.status_code >= 500:
            raise OutcomeUnknown(str(answer.status_code))
        _refuse(answer)
        return await _loaded(table, answer)

    async def _send(self, method: str, path: str, delegation: str, body: object = None) -> httpx.Response:
        """A request that is safe to repeat: 5xx and broken connections become CatalogUnavailable."""
        try:
            answer = await self._request(method, path, delegation, body)
        except httpx.HTTPError as error:
            raise CatalogUnavailable(
                f"The catalog did not answer ({type(error).__name__}). Try again shortly."
            ) from error
        if answer.status_code >= 500:
            raise CatalogUnavailable(f"The catalog answered {answer.status_code}: {_message(answer)}")
        return answer

    async def _request(self, method: str, path: str, delegation: str, body: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {await self._tokens.token(delegation)}"}
        content = None
        if body is not None:
            content = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
            headers["content-type"] = "application/json"
        return await self._client.request(method, path, content=content, headers=headers, timeout=self._timeout)


async def _loaded(table: TableName, answer: httpx.Response) -> LoadedTable:
    body: dict[str, Any] = orjson.loads(answer.content)
    # Off the loop: 3,000 snapshots take 80 ms to parse.
    metadata = await in_thread(TableMetadataUtil.parse_obj, body["metadata"])
    version = answer.headers.get(VERSION_HEADER)
    return LoadedTable(
        table=table,
        metadata=metadata,
        metadata_location=body.get("metadata-location"),
        catalog_version=int(version) if version else None,
        consistency_token=answer.headers.get(TOKEN_HEADER),
    )


def _refuse(answer: httpx.Response) -> None:
    if answer.status_code < 400:
        return
    if answer.status_code == 422 and _type(answer) == FILE_MISSING:
        raise TableFileMissing(_message(answer))
    passed_on = answer.status_code if answer.status_code in (401, 403, 404, 409, 422) else 502
    raise CatalogRefused(
        f"The catalog refused: {_message(answer)}", status=422 if answer.status_code == 400 else passed_on
    )


def _type(answer: httpx.Response) -> str | None:
    """Of an Iceberg error."""
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    return error.get("type") if isinstance(error, dict) else None


def _message(answer: httpx.Response) -> str:
    """The message of an Iceberg error, or of a problem; else the beginning of whatever came."""
    try:
        body = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return answer.text[:200]
    if isinstance(body, dict):
        error = body.get("error")
        if isinstance(error, dict):
            return str(error.get("message", error))[:1000]
        return str(body.get("detail", body))[:1000]
    return str(body)[:200]


def _prefix(tenant: str) -> str:
    return f"/iceberg/v1/{quote(tenant, safe='')}"


def _namespace(table: TableName) -> str:
    return quote(LEVEL_SEPARATOR.join(table.levels), safe="")


def _table_path(tenant: str, table: TableName) -> str:
    return f"{_prefix(tenant)}/namespaces/{_namespace(table)}/tables/{quote(table.name, safe='')}"
