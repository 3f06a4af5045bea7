"""Engines as their users set them up, with a key of the suite and nothing else."""

from __future__ import annotations

from typing import Any

import duckdb
from duckdb_extensions import import_extension
from pyiceberg.catalog.rest import RestCatalog
from suites import Suite


def made_key(suite: Suite, *scopes: str) -> dict[str, Any]:
    with suite.client() as admin:
        answer = admin.post("/v1/keys", json={"name": "engine", "scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def pyiceberg(suite: Suite, key: str) -> RestCatalog:
    return RestCatalog("e2e", uri=f"{suite.url}/iceberg", warehouse="lakehouse", token=key)


def duck(suite: Suite, key: str) -> duckdb.DuckDBPyConnection:
    """DuckDB with its own Iceberg extension, and no other way to the files than the one that it is told."""
    connection = duckdb.connect()
    for extension in ("avro", "httpfs", "iceberg"):
        import_extension(extension)
        connection.execute(f"LOAD {extension}")
    connection.execute(f"CREATE SECRET lakegate (TYPE ICEBERG, TOKEN '{key}')")
    connection.execute(f"ATTACH 'lakehouse' AS lake (TYPE ICEBERG, ENDPOINT '{suite.url}/iceberg', SECRET lakegate)")
    return connection
