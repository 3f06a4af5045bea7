"""GET /v1/overview/{ns}/{table}: three services asked at once, and what is left when some don't answer."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import pytest

from lakegate_gateway.overview import service as overview_service

DATASET = {"id": "1", "namespace": "lakegate://t", "name": "travel.flights", "version": 3}
GRAPH = {"nodes": [], "edges": [], "truncated": False}


def answering(gateway: Any, value: Any, status: int = 200) -> Any:
    async def handler(request: Any, send: Any) -> None:
        await gateway.services["catalog"].answer_json(send, value, status)

    return handler


@pytest.fixture
def answers(gateway: Any) -> Any:
    """All three services as they are when all is well."""
    gateway.services["catalog"].handler = answering(gateway, {"items": [DATASET], "next": None})
    gateway.services["ingest"].handler = answering(gateway, {"items": [{"load_id": "l"}], "next": None})
    gateway.services["lineage"].handler = answering(gateway, GRAPH)
    return gateway


async def test_a_table_is_shown_with_dataset_loads_and_lineage(answers: Any) -> None:
    answer = await answers.admin.get("/v1/overview/travel/flights")
    assert answer.json() == {
        "table": "travel.flights",
        "dataset": DATASET,
        "loads": [{"load_id": "l"}],
        "lineage": GRAPH,
        "errors": [],
    }
    tenant = answers.app.state.settings.bootstrap.tenant
    asked = {name: service.requests[0] for name, service in answers.services.items()}
    assert unquote(asked["catalog"].query) == f"namespace=lakegate://{tenant}&name=travel.flights"
    assert asked["ingest"].query == "table=travel.flights&limit=5"
    assert {request.headers["x-request-id"] for request in asked.values()} == {answer.headers["x-request-id"]}


async def test_a_service_that_fails_leaves_its_part_out_and_says_why(answers: Any) -> None:
    problem = {"type": "/problems/internal-error", "title": "x", "status": 500, "detail": "broken", "instance": "/x"}
    answers.services["lineage"].handler = answering(answers, problem | {"trace_id": "other"}, 500)
    answer = await answers.admin.get("/v1/overview/travel/flights")
    body = answer.json()
    assert (answer.status_code, body["dataset"], body["lineage"]) == (200, DATASET, None)
    assert [(error["part"], error["detail"]) for error in body["errors"]] == [("lineage", "broken")]
    assert "errors" not in body["errors"][0]  # a problem has no members that say nothing


async def test_a_service_that_does_not_answer_in_time_leaves_its_part_out(
    answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(request: Any, send: Any) -> None:
        await asyncio.Event().wait()

    # the other two have to answer within it, on a machine however busy
    monkeypatch.setattr(overview_service, "DEADLINE_SECONDS", 1.5)
    answers.services["ingest"].handler = handler
    body = (await answers.admin.get("/v1/overview/travel/flights")).json()
    assert (body["loads"], body["dataset"]) == (None, DATASET)
    assert [(error["part"], error["type"]) for error in body["errors"]] == [("loads", "/problems/upstream-timeout")]


async def test_lineage_is_left_out_for_who_may_not_see_it(answers: Any) -> None:
    caller = await answers.caller("datasets:read@travel.*")
    body = (await caller.get("/v1/overview/travel/flights")).json()
    assert (body["lineage"], body["errors"][0]["type"]) == (None, "/problems/forbidden")
    assert answers.services["lineage"].requests == []
    assert (await caller.get("/v1/overview/shop/orders")).status_code == 403


async def test_what_nobody_knows_is_404(answers: Any) -> None:
    answers.services["catalog"].handler = answering(answers, {"items": [], "next": None})
    answers.services["ingest"].handler = answering(answers, {"items": [], "next": None})
    answers.services["lineage"].handler = answering(answers, {}, 404)
    answer = await answers.admin.get("/v1/overview/travel/nothing")
    assert (answer.status_code, "/v1/search?q=nothing" in answer.json()["detail"]) == (404, True)


async def test_a_name_that_can_t_be_one_is_422(gateway: Any) -> None:
    assert (await gateway.admin.get("/v1/overview/a..b/c")).status_code == 422
    assert (await gateway.admin.get("/v1/overview/a/b?depth=3")).status_code == 422


@pytest.mark.parametrize(("status", "slug"), [(403, "forbidden"), (422, "invalid-request")])
async def test_what_every_service_refuses_is_refused_and_not_called_away(answers: Any, status: int, slug: str) -> None:
    problem = {"type": f"/problems/{slug}", "title": "x", "status": status, "detail": "not so", "instance": "/x"}
    for service in answers.services.values():
        service.handler = answering(answers, problem, status)
    answer = await answers.admin.get("/v1/overview/travel/flights")
    assert (answer.status_code, answer.json()["type"], answer.json()["detail"]) == (
        status,
        f"/problems/{slug}",
        "not so",
    )


async def test_with_every_service_away_it_is_503(start_gateway: Any) -> None:
    away = "http://127.0.0.1:9"
    async with start_gateway(catalog_url=away, ingest_url=away, lineage_url=away) as gateway:
        answer = await gateway.admin.get("/v1/overview/travel/flights")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/upstream-unreachable")
