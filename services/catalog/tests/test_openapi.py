"""The OpenAPI document, which the gateway merges with the others'."""

from __future__ import annotations

import httpx

from lakegate_catalog.iceberg.document import OPERATIONS
from lakegate_catalog.iceberg.endpoints import ENDPOINTS


async def test_it_describes_what_v1_serves(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as anonymous:
        document = (await anonymous.get("/openapi.json")).json()
    assert {path: sorted(all_) for path, all_ in document["paths"].items() if path.startswith("/v1/")} == {
        "/v1/datasets": ["get", "post"],
        "/v1/datasets/{dataset_id}": ["get", "patch"],
        "/v1/datasets/{dataset_id}/versions": ["get"],
        "/v1/datasets/{dataset_id}/diff": ["get"],
        "/v1/search": ["get"],
    }
    assert "schema" in document["components"]["schemas"]["Dataset"]["properties"]
    parameters = {each["name"] for each in document["paths"]["/v1/search"]["get"]["parameters"]}
    assert {"q", "kind", "tag", "owner", "limit", "cursor", "facets", "consistency_token"} <= parameters


async def test_it_describes_every_iceberg_endpoint_that_config_names_and_no_other(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as anonymous:
        paths = (await anonymous.get("/openapi.json")).json()["paths"]
    described = {
        f"{method.upper()} {path.removeprefix('/iceberg')}"
        for path, operations in paths.items()
        for method in operations
        if path.startswith("/iceberg/")
    }
    assert described == {"GET /v1/config", *ENDPOINTS} == {f"{method} {path}" for method, path in OPERATIONS}
