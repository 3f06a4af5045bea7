"""The merged OpenAPI document and the pages for people."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lakegate_gateway.openapi import merge


def described(gateway: Any, document: dict[str, Any]) -> Any:
    async def handler(request: Any, send: Any) -> None:
        await gateway.services["catalog"].answer_json(send, document)

    return handler


def path(schema: str) -> dict[str, Any]:
    ref = {"$ref": f"#/components/schemas/{schema}"}
    return {"get": {"responses": {"200": {"content": {"application/json": {"schema": ref}}}}}}


CATALOG = {
    "openapi": "3.1.0",
    "info": {"title": "catalog", "version": "1"},
    "paths": {"/v1/datasets": path("Page"), "/internal/rebuild": path("Page"), "/v1/jobs": path("Page")},
    "components": {"schemas": {"Page": {"type": "object", "title": "Datasets"}}},
}
LINEAGE = {
    "openapi": "3.1.0",
    "info": {"title": "lineage", "version": "1"},
    "paths": {"/v1/jobs": path("Page")},
    "components": {"schemas": {"Page": {"type": "object", "title": "Jobs"}}},
}


async def test_one_document_describes_what_is_public_and_nothing_else(start_gateway: Any) -> None:
    async with start_gateway(ingest_url="http://127.0.0.1:9") as gateway:
        gateway.services["catalog"].handler = described(gateway, CATALOG)
        gateway.services["lineage"].handler = described(gateway, LINEAGE)
        document = (await gateway.client().get("/openapi.json")).json()
        assert {"/v1/datasets", "/v1/jobs", "/v1/keys", "/oauth/token", "/v1/overview/{ns}/{table}"} <= set(
            document["paths"]
        )
        assert "/internal/rebuild" not in document["paths"]
        assert document["x-lakegate-missing"] == ["ingest"]
        assert document["security"] == [{"bearer": []}, {"basic": []}]
        assert document["paths"]["/oauth/token"]["post"]["security"] == []
        asked = gateway.services["catalog"].requests
        assert [request.path for request in asked] == ["/openapi.json"]
        refs = set(re.findall(r'"#/components/schemas/([^"]+)"', (await gateway.client().get("/openapi.json")).text))
        assert refs <= set(document["components"]["schemas"])
        assert len(asked) == 1  # kept


def test_schemas_of_the_same_name_are_kept_apart() -> None:
    own = {"openapi": "3.1.0", "info": {}, "paths": {}}
    merged = merge(own, {"catalog": CATALOG, "lineage": LINEAGE}, [])
    schemas = merged["components"]["schemas"]
    assert (schemas["Page"]["title"], schemas["LineagePage"]["title"]) == ("Datasets", "Jobs")
    assert merged["paths"]["/v1/jobs"] == path("LineagePage")
    assert "paths" in own
    assert own["paths"] == {}


@pytest.mark.parametrize("page", ["/docs", "/redoc", "/problems"])
async def test_pages_load_nothing_from_elsewhere(gateway: Any, page: str) -> None:
    answer = await gateway.client().get(page)
    assert answer.status_code == 200
    links = re.findall(r'(?:src|href|spec-url)="([^"]+)"', answer.text)
    assert links
    for link in links:
        assert link.startswith("/")
        assert (await gateway.client().get(link)).status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]


async def test_only_the_viewers_files_are_served(gateway: Any) -> None:
    for name in ("favicon.png", "..%2F__init__.py", "%2e%2e/core.py"):
        assert (await gateway.client().get(f"/docs/assets/{name}")).status_code == 404


async def test_each_problem_of_an_answer_has_its_page(gateway: Any) -> None:
    problem = (await gateway.client().get("/v1/datasets")).json()
    page = await gateway.client().get(problem["type"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>" in page.text
    assert (await gateway.client().get("/problems/nothing-of-this-name")).status_code == 404
    assert (await gateway.client().get("/problems/..%2F..%2FREADME")).status_code in (404, 422)
