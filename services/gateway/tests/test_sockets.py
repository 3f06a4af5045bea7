"""WebSockets through the gateway: who may open one, what passes, and how it ends."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from lakegate_chassis.testing import eventually, serving
from lakegate_gateway.identity import sessions
from lakegate_gateway.settings import LimitSettings

PATH = "/v1/streams/shop/orders/ws"


class Echo:
    """The service behind: says who called, then sends back what it is sent; `refusal` refuses the handshake."""

    def __init__(self) -> None:
        self.refusal: dict[str, Any] | None = None
        self.closed = asyncio.Event()

    async def __call__(self, socket: WebSocket) -> None:
        if self.refusal is not None:
            answer = Response(b"", self.refusal["status"], {"lakegate-problem": quote(orjson.dumps(self.refusal))})
            await socket.send_denial_response(answer)
            return
        await socket.accept()
        names = ("authorization", "lakegate-delegation", "traceparent", "x-request-id")
        await socket.send_json({name: socket.headers.get(name, "") for name in names} | {"query": socket.url.query})
        try:
            while True:
                message = await socket.receive_text()
                if message == "end":
                    await socket.close(4001)
                    return
                await socket.send_text(message)
        except WebSocketDisconnect:
            self.closed.set()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def relaying(echo: Echo, start_gateway: Any) -> AsyncIterator[Any]:
    app = Starlette(routes=[WebSocketRoute(PATH, echo.__call__)])
    limits = start_gateway.limits.model_copy(
        update={"sockets": 3, "sockets_per_tenant": 2, "socket_message_bytes": 4096}
    )
    assert isinstance(limits, LimitSettings)
    async with serving(app) as url, start_gateway(ingest_url=url, limits=limits) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_messages_pass_both_ways_with_an_identity_of_the_gateways(
    relaying: Any, echo: Echo, client: aiohttp.ClientSession
) -> None:
    key = await relaying.key("loads:write@shop")
    async with client.ws_connect(f"{relaying.url}{PATH}?on_bad_row=refuse", headers=bearer(key)) as socket:
        seen = await socket.receive_json()
        assert key not in seen["authorization"]
        assert seen["authorization"].startswith("Bearer ")
        assert all(seen[name] for name in ("lakegate-delegation", "traceparent", "x-request-id"))
        assert seen["query"] == "on_bad_row=refuse"
        for message in ("one", "zwei", "x" * 3000):
            await socket.send_str(message)
            assert await socket.receive_str() == message
    await asyncio.wait_for(echo.closed.wait(), 10)


async def test_the_services_close_reaches_the_client_with_its_code(
    relaying: Any, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(f"{relaying.url}{PATH}", headers=bearer(relaying.admin_key)) as socket:
        await socket.receive_json()
        await socket.send_str("end")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4001


@pytest.mark.parametrize(
    ("scopes", "path", "status"),
    [
        (("datasets:read",), PATH, 403),
        (("loads:write@other",), PATH, 403),
        (("admin",), "/v1/loads/shop/orders", 404),
        (("admin",), "/nothing", 404),
    ],
)
async def test_a_socket_that_is_not_allowed_is_refused_before_it_opens(
    relaying: Any, client: aiohttp.ClientSession, scopes: tuple[str, ...], path: str, status: int
) -> None:
    key = await relaying.key(*scopes)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(f"{relaying.url}{path}", headers=bearer(key))
    assert refused.value.status == status


async def test_without_a_credential_there_is_no_socket(relaying: Any, client: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(f"{relaying.url}{PATH}")
    assert refused.value.status == 401


async def test_the_services_own_problem_is_passed_on(relaying: Any, echo: Echo) -> None:
    echo.refusal = {"type": "/problems/streams-off", "title": "t", "status": 501, "detail": "No Kafka — é."}
    answer = await handshake(relaying, PATH)
    assert answer.status_code == 501
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == echo.refusal


async def test_one_socket_too_many_is_a_problem_and_a_closed_one_makes_room(
    relaying: Any, client: aiohttp.ClientSession
) -> None:
    headers = bearer(relaying.admin_key)
    first = await client.ws_connect(f"{relaying.url}{PATH}", headers=headers)
    second = await client.ws_connect(f"{relaying.url}{PATH}", headers=headers)
    answer = await handshake(relaying, PATH)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/too-many-sockets")
    await first.close()

    async def fits() -> bool:
        return bool((await handshake(relaying, PATH)).status_code == 101)

    await eventually(fits)
    await second.close()


async def test_no_tenant_takes_the_places_of_all(relaying: Any, client: aiohttp.ClientSession) -> None:
    headers = bearer(relaying.admin_key)
    sockets = [await client.ws_connect(f"{relaying.url}{PATH}", headers=headers) for _ in range(2)]
    answer = await handshake(relaying, PATH)
    assert "Your tenant" in answer.json()["detail"]
    other = "lgk_" + secrets.token_urlsafe(32)
    await relaying.app.resources.keys.bootstrap(other, f"t{secrets.token_hex(4)}")
    sockets.append(await client.ws_connect(f"{relaying.url}{PATH}", headers=bearer(other)))
    assert await sockets[-1].receive_json()
    for socket in sockets:
        await socket.close()


async def test_a_socket_ends_when_the_key_is_revoked_at_another_replica(
    relaying: Any, echo: Echo, start_gateway: Any, client: aiohttp.ClientSession
) -> None:
    wanted = {"name": "x", "scopes": ["loads:write"]}
    made = (await relaying.admin.post("/v1/keys", json=wanted)).json()
    kept = await client.ws_connect(f"{relaying.url}{PATH}", headers=bearer(relaying.admin_key))
    await kept.receive_json()
    async with client.ws_connect(f"{relaying.url}{PATH}", headers=bearer(made["key"])) as socket:
        await socket.receive_json()
        async with start_gateway() as other:
            caller = other.client(relaying.admin_key)
            assert (await caller.delete(f"/v1/keys/{made['id']}")).status_code == 204
            assert (await asyncio.wait_for(socket.receive(), 20)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008
    await asyncio.wait_for(echo.closed.wait(), 10)
    await kept.send_str("still here")
    assert await kept.receive_str() == "still here"
    await kept.close()


async def test_a_socket_ends_when_its_account_is_gone(relaying: Any, client: aiohttp.ClientSession) -> None:
    name = f"ada-{secrets.token_hex(4)}"
    account = {"username": name, "password": "correct horse battery", "scopes": ["loads:write"]}
    assert (await relaying.admin.post("/v1/users", json=account)).status_code == 201
    form = {"grant_type": "password", "username": name, "password": account["password"]}
    token = (await relaying.client().post("/oauth/token", data=form)).json()["access_token"]
    async with client.ws_connect(f"{relaying.url}{PATH}", headers=bearer(token)) as socket:
        await socket.receive_json()
        assert (await relaying.admin.delete(f"/v1/users/{name}")).status_code == 204
        assert (await asyncio.wait_for(socket.receive(), 20)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008


async def test_a_socket_ends_when_its_keys_time_is_over(
    relaying: Any, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # by its end alone: nobody looks before
    monkeypatch.setattr(sessions, "VERIFY_SECONDS", 3600)
    monkeypatch.setattr(sessions, "RETRY_SECONDS", 0.1)
    key = await relaying.key("loads:write", expires_at=(datetime.now(UTC) + timedelta(seconds=3)).isoformat())
    async with client.ws_connect(f"{relaying.url}{PATH}", headers=bearer(key)) as socket:
        await socket.receive_json()
        assert (await asyncio.wait_for(socket.receive(), 20)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008


async def test_a_service_that_is_away_is_a_problem(start_gateway: Any) -> None:
    async with start_gateway(ingest_url="http://127.0.0.1:9") as running:
        answer = await handshake(running, PATH)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/upstream-unreachable")


class Answer:
    """An HTTP answer to a handshake; WebSocket clients hide its body."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode().split("\r\n")
        self.status_code = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = body

    def json(self) -> Any:
        return orjson.loads(self.body)


async def handshake(running: Any, path: str) -> Answer:
    request = (
        f"GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {running.admin_key}\r\nupgrade: websocket\r\n"
        "connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    reader, writer = await running.raw(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).strip()
    body = b"" if b" 101 " in head.partition(b"\r\n")[0] else await reader.read()
    writer.close()
    return Answer(head, body)
