"""Server-sent events through the gateway: they have places by tenant, and end with their credential."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.types import Send

from lakegate_chassis.testing import eventually
from lakegate_gateway.identity import sessions

from .conftest import Request

TAIL = "/v1/streams/shop/orders/tail"
PROGRESS = "/v1/loads/0d8f9e52-6a5c-4d3b-9a55-0c2f4ab6f1de/events"
SECONDS = 20


class Ticker:
    """The service behind: one event at once, the next ones when `tick` is set, until the gateway hangs up."""

    def __init__(self) -> None:
        self.tick = asyncio.Event()
        self.left = 0

    async def __call__(self, request: Request, send: Send) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        gone = asyncio.create_task(self._gone(request))
        ticked = asyncio.create_task(self.tick.wait())
        await asyncio.wait({gone, ticked}, return_when=asyncio.FIRST_COMPLETED)
        if not gone.done():
            await send({"type": "http.response.body", "body": b"data: second\n\n", "more_body": False})
        gone.cancel()
        ticked.cancel()

    async def _gone(self, request: Request) -> None:
        while await request.read() or request.whole:
            request.whole = False
        self.left += 1


@pytest.fixture
async def ticker() -> Ticker:
    return Ticker()


@pytest.fixture
async def relaying(ticker: Ticker, start_gateway: Any) -> AsyncIterator[Any]:
    limits = start_gateway.limits.model_copy(update={"event_streams": 3, "event_streams_per_tenant": 2})
    async with start_gateway(limits=limits) as running:
        running.services["ingest"].handler = ticker
        yield running


class Stream:
    """An open answer, read line by line."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def data(self) -> str | None:
        """Of the next event; None at the end of the answer, which has to be a whole one."""
        async with asyncio.timeout(SECONDS):
            async for line in self._lines:
                if line.startswith("data: "):
                    return line.removeprefix("data: ")
        return None


async def opened(client: httpx.AsyncClient, path: str = TAIL) -> Stream:
    answer = await client.send(client.build_request("GET", path), stream=True)
    assert answer.status_code == 200, await answer.aread()
    stream = Stream(answer)
    assert await stream.data() == "first"
    return stream


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("lakegate_gateway_event_streams_total", {"outcome": outcome}) or 0.0


@pytest.mark.parametrize("path", [TAIL, PROGRESS])
async def test_a_stream_ends_when_the_key_is_revoked_at_another_replica(
    relaying: Any, ticker: Ticker, start_gateway: Any, path: str
) -> None:
    wanted = {"name": "x", "scopes": ["datasets:read"]}
    made = (await relaying.admin.post("/v1/keys", json=wanted)).json()
    kept = await opened(relaying.client(relaying.admin_key), path)
    before = counted("revoked")
    caller = relaying.client(made["key"])
    stream = await opened(caller, path)
    async with start_gateway() as other:
        assert (await other.client(relaying.admin_key).delete(f"/v1/keys/{made['id']}")).status_code == 204
        assert await stream.data() is None
    await eventually(lambda: ticker.left == 1)
    assert counted("revoked") == before + 1
    # who connects again is told why
    again = await caller.get(path)
    assert (again.status_code, again.json()["type"]) == (401, "/problems/unauthorized")
    ticker.tick.set()
    assert await kept.data() == "second"
    assert await kept.data() is None


async def test_a_stream_ends_when_its_account_is_gone(relaying: Any) -> None:
    name = f"ada-{secrets.token_hex(4)}"
    account = {"username": name, "password": "correct horse battery", "scopes": ["datasets:read"]}
    assert (await relaying.admin.post("/v1/users", json=account)).status_code == 201
    form = {"grant_type": "password", "username": name, "password": account["password"]}
    token = (await relaying.client().post("/oauth/token", data=form)).json()["access_token"]
    stream = await opened(relaying.client(token))
    assert (await relaying.admin.delete(f"/v1/users/{name}")).status_code == 204
    assert await stream.data() is None


async def test_a_stream_ends_when_its_keys_time_is_over(relaying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # by its end alone: nobody looks before
    monkeypatch.setattr(sessions, "VERIFY_SECONDS", 3600)
    monkeypatch.setattr(sessions, "RETRY_SECONDS", 0.1)
    key = await relaying.key("datasets:read", expires_at=(datetime.now(UTC) + timedelta(seconds=3)).isoformat())
    stream = await opened(relaying.client(key))
    assert await stream.data() is None


async def test_one_stream_too_many_is_a_problem_and_a_closed_one_makes_room(relaying: Any) -> None:
    client = relaying.client(relaying.admin_key)
    first, second = await opened(client), await opened(client, PROGRESS)
    before = counted("refused")
    refused = await client.get(TAIL)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["type"] == "/problems/too-many-event-streams"
    assert "Your tenant has 2 event streams" in refused.json()["detail"]
    assert counted("refused") == before + 1
    # no tenant takes the places of all
    other = "lgk_" + secrets.token_urlsafe(32)
    await relaying.app.resources.keys.bootstrap(other, f"t{secrets.token_hex(4)}")
    third = await opened(relaying.client(other))
    await first.answer.aclose()

    async def fits() -> bool:
        answer = await client.send(client.build_request("GET", TAIL), stream=True)
        await answer.aclose()
        return bool(answer.status_code == 200)

    await eventually(fits)
    for stream in (second, third):
        await stream.answer.aclose()
    await eventually(lambda: REGISTRY.get_sample_value("lakegate_gateway_open_event_streams") == 0)


async def test_requests_beside_a_stream_need_no_place(relaying: Any) -> None:
    client = relaying.client(relaying.admin_key)
    streams = [await opened(client) for _ in range(2)]
    relaying.services["ingest"].handler = None
    assert (await client.get("/v1/streams/shop/orders")).status_code == 200
    assert (await client.get("/v1/loads")).status_code == 200
    for stream in streams:
        await stream.answer.aclose()
