"""What the OpenAPI document says of the Iceberg paths: where they are and what they take and answer.

Bodies are told as far as our clients need it; their whole schema is the Iceberg REST specification's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

JSON = "application/json"
SPECIFICATION = "https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml"
_NAMESPACE = {"type": "array", "items": {"type": "string"}, "minItems": 1, "example": ["travel"]}
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_IDENTIFIER = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {"namespace": _NAMESPACE, "name": {"type": "string", "example": "flights"}},
}
_OBJECTS = {"type": "array", "items": {"type": "object"}}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "properties": {key.replace("_", "-"): properties[key] for key in properties},
    }
    return made | ({"required": required.split()} if required else {})


@dataclass(frozen=True)
class Operation:
    """`takes` is the body's schema; `gives` the answer's, None for 204; both named as in the specification."""

    id: str
    summary: str
    takes: dict[str, Any] | None = None
    gives: dict[str, Any] | None = None
    query: tuple[tuple[str, dict[str, Any]], ...] = ()


_TABLE_RESULT = _object("metadata", metadata_location={"type": "string"}, metadata={"type": "object"}, config=_STRINGS)
_PAGES = (("pageToken", {"type": "string"}), ("pageSize", {"type": "integer", "minimum": 1}))
_P = "/v1/{prefix}"
_N = "/v1/{prefix}/namespaces/{namespace}"
_T = "/v1/{prefix}/namespaces/{namespace}/tables/{table}"

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/v1/config"): Operation(
        "getConfig",
        "The prefix to use, and the endpoints that are served",
        gives=_object("defaults overrides", defaults=_STRINGS, overrides=_STRINGS, endpoints={"type": "array"}),
        query=(("warehouse", {"type": "string", "example": "lakehouse"}),),
    ),
    ("GET", f"{_P}/namespaces"): Operation(
        "listNamespaces",
        "List namespaces, below `parent` where it is given",
        gives=_object("namespaces", namespaces={"type": "array", "items": _NAMESPACE}),
        query=(("parent", {"type": "string"}), *_PAGES),
    ),
    ("POST", f"{_P}/namespaces"): Operation(
        "createNamespace",
        "Create a namespace",
        takes=_object("namespace", namespace=_NAMESPACE, properties=_STRINGS),
        gives=_object("namespace", namespace=_NAMESPACE, properties=_STRINGS),
    ),
    ("GET", _N): Operation(
        "loadNamespaceMetadata",
        "A namespace's properties",
        gives=_object("namespace", namespace=_NAMESPACE, properties=_STRINGS),
    ),
    ("HEAD", _N): Operation("namespaceExists", "Whether a namespace is there"),
    ("DELETE", _N): Operation("dropNamespace", "Drop an empty namespace"),
    ("POST", f"{_N}/properties"): Operation(
        "updateProperties",
        "Set and remove properties of a namespace",
        takes=_object(removals={"type": "array", "items": {"type": "string"}}, updates=_STRINGS),
        gives=_object("updated removed", updated={"type": "array"}, removed={"type": "array"}, missing={}),
    ),
    ("GET", f"{_N}/tables"): Operation(
        "listTables",
        "List the tables of a namespace",
        gives=_object("identifiers", identifiers={"type": "array", "items": _IDENTIFIER}),
        query=_PAGES,
    ),
    ("POST", f"{_N}/tables"): Operation(
        "createTable",
        "Create a table, or stage its creation",
        takes=_object(
            "name schema",
            name={"type": "string", "example": "flights"},
            location={"type": "string"},
            schema={"type": "object"},
            partition_spec={"type": "object"},
            write_order={"type": "object"},
            stage_create={"type": "boolean"},
            properties=_STRINGS,
        ),
        gives=_TABLE_RESULT,
    ),
    ("POST", f"{_N}/register"): Operation(
        "registerTable",
        "Register a table by its metadata file",
        takes=_object("name metadata-location", name={"type": "string"}, metadata_location={"type": "string"}),
        gives=_TABLE_RESULT,
    ),
    ("GET", _T): Operation("loadTable", "Load a table's metadata", gives=_TABLE_RESULT),
    ("HEAD", _T): Operation("tableExists", "Whether a table is there"),
    ("GET", f"{_T}/credentials"): Operation(
        "loadCredentials",
        "Keys for the files of a table, and of no other",
        gives=_object("storage-credentials", storage_credentials=_OBJECTS),
    ),
    ("POST", _T): Operation(
        "updateTable",
        "Commit updates, if all requirements are met",
        takes=_object("requirements updates", identifier=_IDENTIFIER, requirements=_OBJECTS, updates=_OBJECTS),
        gives=_TABLE_RESULT,
    ),
    ("DELETE", _T): Operation(
        "dropTable",
        "Drop a table, with `purgeRequested` its files too",
        query=(("purgeRequested", {"type": "boolean"}),),
    ),
    ("POST", f"{_T}/metrics"): Operation(
        "reportMetrics", "Take a client's scan or commit report", takes=_object(report_type={"type": "string"})
    ),
    ("POST", f"{_P}/tables/rename"): Operation(
        "renameTable",
        "Rename a table",
        takes=_object("source destination", source=_IDENTIFIER, destination=_IDENTIFIER),
    ),
}

_PARAMETERS = {
    "prefix": "what config answers as `overrides.prefix`: your tenant",
    "namespace": "its levels, joined with the unit separator (%1F)",
    "table": "the table's name",
}
_ERROR = _object(
    "error",
    error=_object("message type code", message={"type": "string"}, type={"type": "string"}, code={"type": "integer"}),
)


def describe(app: FastAPI) -> None:
    """Add the Iceberg paths, which are Starlette's own routes, to the document of `app`."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document: dict[str, Any] = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).setdefault("IcebergErrorModel", _ERROR)
        for (method, path), operation in OPERATIONS.items():
            document["paths"].setdefault(f"/iceberg{path}", {})[method.lower()] = _written(path, operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _written(path: str, operation: Operation) -> dict[str, Any]:
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": what,
            "schema": {"type": "string", "minLength": 1},
        }
        for name, what in _PARAMETERS.items()
        if f"{{{name}}}" in path
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query]
    success: dict[str, Any] = {"204": {"description": "Done"}}
    if operation.gives is not None:
        success = {"200": {"description": operation.summary, "content": {JSON: {"schema": operation.gives}}}}
    if operation.id == "loadTable":
        success["304"] = {"description": "What If-None-Match names is current"}
    answers = success | {
        "default": {
            "description": "Iceberg's own error shape; `type` names the exception",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/IcebergErrorModel"}}},
        }
    }
    written: dict[str, Any] = {
        "tags": ["Iceberg REST"],
        "operationId": operation.id,
        "summary": operation.summary,
        "externalDocs": {"url": SPECIFICATION, "description": "The Apache Iceberg REST specification"},
        "parameters": parameters,
        "responses": answers,
    }
    if operation.takes is not None:
        written["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.takes}}}
    return written
