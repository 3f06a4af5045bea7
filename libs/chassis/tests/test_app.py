"""A service as its callers see it: a real server around a small app of the chassis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from prometheus_client import REGISTRY
from pydantic import BaseModel, Field, SecretStr

from lakegate_chassis import context, middleware, problems
from lakegate_chassis.app import service_app
from lakegate_chassis.auth import Caller, require
from lakegate_chassis.http import upstream_client
from lakegate_chassis.settings import (
    BackendSettings,
    InternalTokenSettings,
    PostgresSettings,
    settings_config,
)
from lakegate_chassis.testing import eventually, serving
from lakegate_chassis.tokens import TokenSigner
from lakegate_contracts.identity import Principal, Scope

ALICE = Principal(tenant="acme", subject="alice", scopes=("datasets:read",))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class LibrarySettings(BackendSettings):
    model_config = settings_config("LIBRARY_")
    port: int = 0
    management_port: int = 0


class Book(BaseModel):
    title: str = Field(max_length=10)
    pages: list[int]


@pytest.fixture
def signer() -> TokenSigner:
    return TokenSigner(Ed25519PrivateKey.generate())


@pytest.fixture
def app(tmp_path: Path, signer: TokenSigner) -> FastAPI:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(orjson.dumps({"keys": [signer.jwk]}))
    settings = LibrarySettings(
        postgres=PostgresSettings(url=SecretStr("postgresql://unused")), token=InternalTokenSettings(jwks=jwks)
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = service_app(service="catalog", title="Library", settings=settings, lifespan=lifespan)

    @app.get("/v1/books/{number}")
    async def book(caller: Caller, number: int, page: Annotated[int, Query(le=10)] = 1) -> dict[str, str]:
        return {"tenant": caller.tenant, "trace": context.current().trace_id, "request": context.current().request_id}

    @app.post("/v1/books")
    async def add(caller: Caller, book: Book) -> Book:
        require(caller, Scope.DATASETS_WRITE, "shelf")
        return book

    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/v1/cut")
    async def cut() -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise RuntimeError("the other half is lost")

        return StreamingResponse(chunks())

    return app


@pytest.fixture
async def client(app: FastAPI, signer: TokenSigner) -> AsyncIterator[httpx.AsyncClient]:
    token = signer.mint(ALICE, "catalog")
    async with (
        serving(app) as url,
        httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=30
        ) as client,
    ):
        yield client


async def test_the_token_tells_who_calls(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/books/1")).json()["tenant"] == "acme"


async def test_without_a_token_nothing_but_health_is_answered(client: httpx.AsyncClient) -> None:
    del client.headers["authorization"]
    refused = await client.get("/v1/books/1")
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/unauthorized")
    for path in ("/livez", "/readyz", "/startupz"):
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("skew", [-300, 300])
async def test_a_clock_5_minutes_off_is_a_problem_that_names_the_skew(
    client: httpx.AsyncClient, signer: TokenSigner, skew: int
) -> None:
    now = int(time.time())
    token = signer.mint(ALICE, "catalog", iat=now + skew, exp=now + skew + 60)
    refused = await client.get("/v1/books/1", headers={"authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/clocks-apart")
    assert abs(refused.json()["skew_seconds"] - skew) < 30
    assert refused.headers["retry-after"] == "5"


async def test_readiness_tells_how_the_consumers_stand_and_stays_ready(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["consumers"]["running"] is True


async def test_a_missing_scope_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/books", json={"title": "Emma", "pages": [1]})
    assert answer.status_code == 403
    assert "datasets:write in namespace shelf" in answer.json()["detail"]


async def test_a_bad_body_is_answered_with_pointers_to_each_fault(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/books", json={"title": "War and Peace", "pages": [1, "two"]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/title", "/pages/1"]


async def test_an_unknown_query_parameter_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/books/1", params={"pgae": 2})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"detail": "unknown query parameter", "pointer": "?pgae"}]
    assert "takes: page" in answer.json()["detail"]


async def test_an_unforeseen_error_hides_its_text_and_shows_the_trace(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/broken")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert len(answer.json()["trace_id"]) == 32


async def test_an_answer_that_breaks_half_way_breaks_the_connection(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/v1/cut")


async def test_ids_of_the_caller_are_kept_and_returned(client: httpx.AsyncClient) -> None:
    headers = {"x-request-id": "order-7", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"}
    answer = await client.get("/v1/books/1", headers=headers)
    assert answer.json() | {"tenant": ""} == {"tenant": "", "trace": TRACE, "request": "order-7"}
    assert answer.headers["x-request-id"] == "order-7"
    assert answer.headers["traceparent"].split("-")[1] == TRACE


@pytest.mark.parametrize(
    "bad", ["00-xyz-00f067aa0ba902b7-01", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01"]
)
async def test_an_invalid_traceparent_starts_a_new_trace(client: httpx.AsyncClient, bad: str) -> None:
    trace = (await client.get("/v1/books/1", headers={"traceparent": bad})).json()["trace"]
    assert len(trace) == 32
    assert trace not in bad


async def test_an_unprintable_request_id_is_replaced(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/books/1", headers={"x-request-id": "x" * 129})
    assert len(answer.headers["x-request-id"]) == 32


async def test_requests_are_counted_by_route_template(client: httpx.AsyncClient) -> None:
    labels = {"method": "GET", "route": "/v1/books/{number}", "status": "200", "tenant_class": "standard"}
    before = REGISTRY.get_sample_value("lakegate_http_requests_total", labels) or 0
    await client.get("/v1/books/1")
    await client.get("/v1/books/2")
    assert REGISTRY.get_sample_value("lakegate_http_requests_total", labels) == before + 2


async def test_a_draining_service_says_so_and_still_answers(app: FastAPI, client: httpx.AsyncClient) -> None:
    app.state.health.draining.set()
    assert (await client.get("/readyz")).status_code == 503
    answer = await client.get("/v1/books/1")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_a_request_that_is_cut_off_at_the_end_of_its_process_is_told_so(
    app: FastAPI, signer: TokenSigner
) -> None:
    began = asyncio.Event()

    @app.get("/v1/slow")
    async def slow() -> None:
        began.set()
        await asyncio.Event().wait()

    async with httpx.AsyncClient(
        headers={"authorization": f"Bearer {signer.mint(ALICE, 'catalog')}"}, timeout=30
    ) as client:
        async with serving(app) as url:
            asked = asyncio.create_task(client.get(f"{url}/v1/slow"))
            await began.wait()
            app.state.health.draining.set()
        # the server has ended, and waited for two seconds
        answer = await asked
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_readiness_names_the_dependency_that_fails(app: FastAPI, client: httpx.AsyncClient) -> None:
    async def away() -> None:
        raise ConnectionRefusedError

    app.state.health.add_checks({"postgres": away})
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["failures"] == {"postgres": "ConnectionRefusedError"}


async def test_an_upstream_call_passes_the_ids_on(app: FastAPI, signer: TokenSigner) -> None:
    async with serving(app) as url:
        upstream = upstream_client("catalog", url)
        context.enter(context.RequestInfo("order-8", TRACE, "00f067aa0ba902b7"))
        token = signer.mint(ALICE, "catalog")
        answer = await upstream.get("/v1/books/1", headers={"authorization": f"Bearer {token}"})
        context.enter(context.NO_REQUEST)
        await upstream.aclose()
    assert answer.json() | {"tenant": ""} == {"tenant": "", "trace": TRACE, "request": "order-8"}


async def test_the_openapi_document_promises_problems_for_every_error(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/v1/books"]["post"]["responses"]
    schema = responses["default"]["content"]["application/problem+json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ProblemBody"}
    assert set(problems.ProblemBody.model_fields) == set(document["components"]["schemas"]["ProblemBody"]["properties"])


async def test_a_client_that_hangs_up_is_no_error_of_ours(
    app: FastAPI, client: httpx.AsyncClient, signer: TokenSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(middleware, "unforeseen", seen.append)

    @app.post("/v1/stream")
    async def stream(caller: Caller, request: Request) -> None:
        async for _ in request.stream():
            arrived.set()

    arrived = asyncio.Event()
    before = REGISTRY.get_sample_value("lakegate_http_disconnects_total") or 0
    token = signer.mint(ALICE, "catalog")
    head = f"POST /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 9\r\n\r\n"
    _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(head.encode() + b"half")
    await asyncio.wait_for(arrived.wait(), 30)
    writer.close()
    await eventually(lambda: REGISTRY.get_sample_value("lakegate_http_disconnects_total") == before + 1)
    assert seen == []
