"""Iceberg REST over HTTP. The routes are Starlette's own: bodies, errors and unknown parameters are the
specification's (which ignores them), not those of /v1; and the table of routes is what `config` advertises."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, TypeVar

import orjson
from prometheus_client import Counter
from pyiceberg.typedef import IcebergBaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lakegate_catalog.datasets.state import read
from lakegate_catalog.files.grants import storage_credentials
from lakegate_catalog.iceberg.dialect import BadRequest, Endpoint, Forbidden, NoSuchEndpoint, in_dialect, refusing
from lakegate_catalog.iceberg.namespaces import dotted, parse_namespace
from lakegate_catalog.iceberg.requests import (
    CommitTable,
    CreateNamespace,
    CreateTable,
    Identifier,
    RegisterTable,
    RenameTable,
    UpdateProperties,
)
from lakegate_catalog.iceberg.tables import Loaded
from lakegate_catalog.resources import Resources
from lakegate_catalog.store.port import Change
from lakegate_chassis.numerals import natural
from lakegate_chassis.problems import Forbidden as ForbiddenProblem
from lakegate_contracts.identity import FILE_TOKEN_HEADER, Principal, Scope
from lakegate_contracts.names import TableName

READ = (Scope.DATASETS_READ, Scope.DATASETS_WRITE, Scope.LOADS_WRITE)
# A producer's load creates and extends tables, so its scope does too; what is there is changed by datasets:write only.
APPEND = (Scope.DATASETS_WRITE, Scope.LOADS_WRITE)
CHANGE = (Scope.DATASETS_WRITE,)
MAX_BODY_BYTES = 32 << 20
MAX_PAGE = 1000
EVERYTHING = 1_000_000
M = TypeVar("M", bound=IcebergBaseModel)
NO_STORE = {"cache-control": "no-store"}

METRICS_REPORTS = Counter(
    "lakegate_catalog_metrics_reports_total", "Iceberg metrics reports taken from clients", ["report"]
)


async def config(request: Request) -> Response:
    principal, resources = _caller(request), _resources(request)
    warehouse = resources.settings.warehouse
    asked = request.query_params.get("warehouse", "")
    if asked not in ("", warehouse.name, principal.tenant):
        raise BadRequest(f"There is no warehouse {asked!r}. This catalog serves {warehouse.name!r}.")
    answer = {
        "defaults": warehouse.client_properties,
        "overrides": {"prefix": principal.tenant},
        "endpoints": ENDPOINTS,
    }
    return _json(answer)


async def list_namespaces(request: Request) -> Response:
    principal, resources = _enter(request)
    parent = request.query_params.get("parent", "")
    parent = parse_namespace(parent) if parent else ""
    after, limit = _page(request)
    visible: list[str] = []
    full = True
    # on to the last one that is shown: a token names a namespace
    while full and len(visible) < limit:
        most = max(limit, MAX_PAGE)
        found = await resources.namespaces.children(principal.tenant, parent, after=after, limit=most)
        visible += [name for name in found if any(principal.allows(scope, name) for scope in READ)]
        full = len(found) == most
        after = found[-1] if found else after
    visible = visible[:limit]
    return _json({"namespaces": [name.split(".") for name in visible], "next-page-token": _next(visible, limit)})


async def create_namespace(request: Request) -> Response:
    principal, resources = _enter(request)
    body = await _sent(CreateNamespace, request)
    namespace = dotted(body.namespace)
    _permit(principal, APPEND, namespace)
    properties = await resources.namespaces.create(principal.tenant, namespace, body.properties)
    return _json({"namespace": body.namespace, "properties": properties})


async def load_namespace(request: Request) -> Response:
    principal, resources, namespace = _enter_namespace(request, READ)
    properties = await resources.namespaces.properties(principal.tenant, namespace)
    return _json({"namespace": namespace.split("."), "properties": properties})


async def namespace_exists(request: Request) -> Response:
    principal, resources, namespace = _enter_namespace(request, READ)
    await resources.namespaces.properties(principal.tenant, namespace)
    return Response(status_code=204)


async def update_namespace(request: Request) -> Response:
    principal, resources, namespace = _enter_namespace(request, CHANGE)
    body = await _sent(UpdateProperties, request)
    removed, updated, missing = await resources.namespaces.update(
        principal.tenant, namespace, body.removals, body.updates
    )
    return _json({"removed": removed, "updated": updated, "missing": missing})


async def drop_namespace(request: Request) -> Response:
    principal, resources, namespace = _enter_namespace(request, CHANGE)
    await resources.namespaces.drop(principal.tenant, namespace)
    return Response(status_code=204)


async def list_tables(request: Request) -> Response:
    principal, resources, namespace = _enter_namespace(request, READ)
    after, limit = _page(request)
    found = await resources.tables.names(principal.tenant, namespace, after=after, limit=limit)
    identifiers = [{"namespace": namespace.split("."), "name": name} for name in found]
    return _json({"identifiers": identifiers, "next-page-token": _next(found, limit)})


async def create_table(request: Request) -> Response:
    principal, resources, namespace = _enter_namespace(request, APPEND)
    body = await _sent(CreateTable, request)
    table = TableName.of(namespace, body.name)
    metadata = resources.tables.stage(principal.tenant, namespace, body)
    if body.stage_create:
        await resources.tables.check_free(principal.tenant, table)
        await asyncio.to_thread(resources.tables.warehouse.prepare, metadata.location)
        content = b'{"metadata":' + metadata.model_dump_json().encode() + _access(request, namespace, metadata.location)
        return Response(content, media_type="application/json", headers=NO_STORE)
    created = await resources.tables.create(principal.tenant, table, metadata, principal.subject)
    return _table(request, namespace, created, committed=True)


async def register_table(request: Request) -> Response:
    principal, resources, namespace = _enter_namespace(request, APPEND)
    body = await _sent(RegisterTable, request)
    if body.overwrite:
        raise BadRequest("A table is not registered over another one here. Drop the old one first, without purge.")
    table = TableName.of(namespace, body.name)
    loaded = await resources.tables.register(principal.tenant, table, body.metadata_location, principal.subject)
    return _table(request, namespace, loaded, committed=True)


async def load_table(request: Request) -> Response:
    principal, resources, table = _enter_table(request, READ)
    loaded = await resources.tables.load(principal.tenant, table)
    etag = _etag(loaded)
    # keys in an answer are to be renewed, so that one is never old enough
    if request.headers.get("if-none-match") == etag and not _wants_keys(request):
        return Response(status_code=304, headers={"etag": etag})
    return _table(request, table.namespace, loaded)


async def load_credentials(request: Request) -> Response:
    principal, resources, table = _enter_table(request, READ)
    location = read(await resources.tables.current(principal.tenant, table)).location or ""
    keys = _keys(request, table.namespace, location)
    if not keys:
        raise BadRequest(
            "No keys for files are handed out here: the warehouse is no object store, or you may not read."
        )
    return Response(
        orjson.dumps({"storage-credentials": storage_credentials(location, keys)}),
        media_type="application/json",
        headers=NO_STORE,
    )


async def table_exists(request: Request) -> Response:
    principal, resources, table = _enter_table(request, READ)
    await resources.tables.current(principal.tenant, table)
    return Response(status_code=204)


async def commit_table(request: Request) -> Response:
    principal, resources, table = _enter_table(request, APPEND)
    body = await _sent(CommitTable, request)
    if body.identifier and _table_of(body.identifier) != table:
        raise BadRequest(f"The body names {_table_of(body.identifier)}, the path {table}.")
    loaded = await resources.commits.commit(principal.tenant, table, body, principal.subject)
    return _table(request, table.namespace, loaded, committed=True)


async def drop_table(request: Request) -> Response:
    principal, resources, table = _enter_table(request, CHANGE)
    purge = request.query_params.get("purgeRequested", "false").lower() == "true"
    dropped = await resources.tables.drop(principal.tenant, table, purge=purge)
    return Response(status_code=204, headers=_written(dropped))


async def rename_table(request: Request) -> Response:
    principal, resources = _enter(request)
    body = await _sent(RenameTable, request)
    source, destination = _table_of(body.source), _table_of(body.destination)
    _permit(principal, CHANGE, source.namespace)
    _permit(principal, CHANGE, destination.namespace)
    renamed = await resources.tables.rename(principal.tenant, source, destination, principal.subject)
    return Response(status_code=204, headers=_written(renamed))


async def report_metrics(request: Request) -> Response:
    _enter_table(request, READ)
    try:
        report = orjson.loads(await _body(request))
    except orjson.JSONDecodeError as error:
        raise BadRequest("A metrics report is a JSON object.") from error
    if not isinstance(report, dict):
        raise BadRequest("A metrics report is a JSON object.")
    kind = report.get("report-type")
    METRICS_REPORTS.labels(kind if kind in ("scan-report", "commit-report") else "other").inc()
    return Response(status_code=204)


async def unknown(request: Request) -> Response:
    raise NoSuchEndpoint(f"{request.method} {request.url.path} is not served; config lists the endpoints that are.")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_P = "/v1/{prefix}"
_N = "/v1/{prefix}/namespaces/{namespace}"
_T = "/v1/{prefix}/namespaces/{namespace}/tables/{table}"
_SERVED: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/v1/config", config),
    ("GET", f"{_P}/namespaces", list_namespaces),
    ("POST", f"{_P}/namespaces", create_namespace),
    ("GET", _N, load_namespace),
    ("HEAD", _N, namespace_exists),
    ("DELETE", _N, drop_namespace),
    ("POST", f"{_N}/properties", update_namespace),
    ("GET", f"{_N}/tables", list_tables),
    ("POST", f"{_N}/tables", create_table),
    ("POST", f"{_N}/register", register_table),
    ("GET", _T, load_table),
    ("HEAD", _T, table_exists),
    ("GET", f"{_T}/credentials", load_credentials),
    ("POST", _T, commit_table),
    ("DELETE", _T, drop_table),
    ("POST", f"{_T}/metrics", report_metrics),
    ("POST", f"{_P}/tables/rename", rename_table),
)
ENDPOINTS = [f"{method} {path}" for method, path, _ in _SERVED if path != "/v1/config"]


def routes() -> list[Route]:
    """All of it, below /iceberg. HEAD stands before GET: Starlette's GET would answer HEAD too, with a body's work."""
    ordered = sorted(_SERVED, key=lambda served: served[0] != "HEAD")
    found = []
    for method, path, endpoint in ordered:
        route = Route(f"/iceberg{path}", in_dialect(endpoint, f"/iceberg{path}"), methods=[method])
        route.methods = {method}
        found.append(route)
    found.append(Route("/iceberg/{path:path}", in_dialect(unknown, "/iceberg/{path}"), methods=list(METHODS)))
    return found


def _caller(request: Request) -> Principal:
    """Whom the chassis' AuthMiddleware found."""
    principal = request.scope["principal"]
    assert isinstance(principal, Principal)
    return principal


def _resources(request: Request) -> Resources:
    resources = request.app.state.resources
    assert isinstance(resources, Resources)
    return resources


def _enter(request: Request) -> tuple[Principal, Resources]:
    """Who calls. Raises Forbidden when the prefix is another tenant's."""
    principal = _caller(request)
    prefix = request.path_params["prefix"]
    if prefix != principal.tenant:
        raise Forbidden(f"The prefix {prefix!r} is not yours; use the one that /iceberg/v1/config gives you.")
    return principal, _resources(request)


def _enter_namespace(request: Request, scopes: tuple[Scope, ...]) -> tuple[Principal, Resources, str]:
    principal, resources = _enter(request)
    namespace = parse_namespace(request.path_params["namespace"])
    _permit(principal, scopes, namespace)
    return principal, resources, namespace


def _enter_table(request: Request, scopes: tuple[Scope, ...]) -> tuple[Principal, Resources, TableName]:
    principal, resources, namespace = _enter_namespace(request, scopes)
    return principal, resources, TableName.of(namespace, request.path_params["table"])


def _permit(principal: Principal, scopes: tuple[Scope, ...], namespace: str) -> None:
    if not any(principal.allows(scope, namespace) for scope in scopes):
        needed = " or ".join(scope.value for scope in scopes)
        raise ForbiddenProblem(f"This needs the scope {needed} in namespace {namespace}.")


def _table_of(identifier: Identifier) -> TableName:
    return TableName.of(dotted(identifier.namespace), identifier.name)


async def _sent(model: type[M], request: Request) -> M:
    """The body. Raises BadRequest."""
    content = await _body(request)
    with refusing("The request is not valid"):
        return model.model_validate_json(content)


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise BadRequest(f"The body is larger than {MAX_BODY_BYTES >> 20} MiB.")
    return bytes(content)


def _page(request: Request) -> tuple[str, int]:
    """Where to go on, and how many. Without pageToken and pageSize everything is listed, as the specification asks."""
    token, size = request.query_params.get("pageToken"), request.query_params.get("pageSize")
    if token is None and size is None:
        return "", EVERYTHING
    wanted = MAX_PAGE if size is None else natural(size, 9)
    if not wanted:
        raise BadRequest("pageSize is a number above 0, of up to 9 digits.")
    try:
        after = base64.b64decode(token, b"-_", validate=True).decode() if token else ""
    except ValueError as error:
        raise BadRequest("pageToken is not one of ours; use next-page-token as it was given.") from error
    return after, min(wanted, MAX_PAGE)


def _next(found: list[str], limit: int) -> str | None:
    return base64.urlsafe_b64encode(found[-1].encode()).decode() if len(found) == limit else None


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _table(request: Request, namespace: str, loaded: Loaded, *, committed: bool = False) -> Response:
    """LoadTableResult or CommitTableResponse, around the bytes of the metadata file as they are."""
    document = loaded.document
    content = b"".join(
        (
            b'{"metadata-location":',
            orjson.dumps(document.location),
            b',"metadata":',
            document.content,
            _access(request, namespace, read(loaded.change).location or ""),
        )
    )
    headers = {"etag": _etag(loaded), "lakegate-catalog-version": str(loaded.change.sequence), **NO_STORE}
    if committed:
        headers |= _written(loaded.change)
    return Response(content, headers=headers, media_type="application/json")


def _wants_keys(request: Request) -> bool:
    return "vended-credentials" in request.headers.get("x-iceberg-access-delegation", "")


def _keys(request: Request, namespace: str, location: str) -> dict[str, str]:
    """Keys for the table's files, as far as the caller may go; none without the gateway's token, or for a producer."""
    principal, resources = _caller(request), _resources(request)
    token = request.headers.get(FILE_TOKEN_HEADER)
    may_write = principal.allows(Scope.DATASETS_WRITE, namespace)
    if token is None or not resources.grants.enabled:
        return {}
    if not may_write and not principal.allows(Scope.DATASETS_READ, namespace):
        return {}
    return resources.grants.config(location, token, may_write=may_write)


def _access(request: Request, namespace: str, location: str) -> bytes:
    """The end of a LoadTableResult: how its files are reached."""
    config = _resources(request).settings.warehouse.client_properties
    keys = _keys(request, namespace, location) if _wants_keys(request) else {}
    if not keys:
        return b',"config":' + orjson.dumps(config) + b"}"
    credentials = orjson.dumps(storage_credentials(location, keys))
    return b',"config":' + orjson.dumps(config | keys) + b',"storage-credentials":' + credentials + b"}"


def _etag(loaded: Loaded) -> str:
    return f'"{loaded.change.entity_id.hex}-{loaded.change.sequence}"'


def _written(change: Change) -> dict[str, str]:
    headers = {"lakegate-catalog-version": str(change.sequence)}
    if change.position is not None:
        headers["lakegate-consistency-token"] = str(change.position)
    return headers
