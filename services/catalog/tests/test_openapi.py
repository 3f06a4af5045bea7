"""The OpenAPI document, which the gateway merges with the others'."""

from __future__ import annotations

import httpx


async def test_it_describes_what_v1_serves(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url) as anonymous:
        document = (await anonymous.get("/openapi.json")).json()
    assert {path: sorted(operations) for path, operations in document["paths"].items()} == {
        "/v1/datasets": ["get", "post"],
        "/v1/datasets/{dataset_id}": ["get", "patch"],
        "/v1/datasets/{dataset_id}/versions": ["get"],
        "/v1/datasets/{dataset_id}/diff": ["get"],
        "/v1/search": ["get"],
    }
    assert "schema" in document["components"]["schemas"]["Dataset"]["properties"]
    parameters = {each["name"] for each in document["paths"]["/v1/search"]["get"]["parameters"]}
    assert {"q", "kind", "tag", "owner", "limit", "cursor", "facets", "consistency_token"} <= parameters
