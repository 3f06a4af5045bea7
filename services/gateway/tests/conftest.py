"""A real gateway on a free port, with the real database, in front of services that behave as a test wants."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from lakegate_chassis.settings import PostgresSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_chassis.tokens import TokenVerifier
from lakegate_gateway.app import Gateway, create_app
from lakegate_gateway.keygen import make_keys
from lakegate_gateway.settings import BootstrapSettings, GatewaySettings, KeySettings, LimitSettings

Handler = Callable[["Request", Send], Awaitable[None]]


@dataclass
class Request:
    """A request as a service saw it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    receive: Receive
    body_bytes: int = 0
    body: bytes = b""
    whole: bool = False

    async def read(self) -> bytes:
        """The next piece, empty at the end; `whole` tells an end from a hang-up."""
        message: Message = await self.receive()
        if message["type"] == "http.disconnect":
            return b""
        self.whole = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self.body_bytes += len(piece)
        return piece


@dataclass
class Service:
    """A service behind the gateway. It checks its token as a real one does and answers what it saw, or `handler`."""

    name: str
    handler: Handler | None = None
    requests: list[Request] = field(default_factory=list)
    verifier: TokenVerifier | None = None
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        request = Request(scope["method"], scope["raw_path"].decode(), scope["query_string"].decode(), headers, receive)
        self.requests.append(request)
        if self.handler is not None:
            await self.handler(request, send)
            return
        while not request.whole:
            piece = await request.read()
            if not piece and not request.whole:
                return
            request.body += piece[: 1 << 16]
        assert self.verifier is not None
        principal = self.verifier.verify(headers["authorization"].removeprefix("Bearer "))
        await self.answer_json(
            send,
            {
                "service": self.name,
                "method": request.method,
                "path": request.path,
                "query": request.query,
                "headers": request.headers,
                "body_bytes": request.body_bytes,
                "body": request.body[:1000].decode("latin-1"),
                "principal": principal.model_dump(),
            },
        )

    @staticmethod
    async def answer_json(send: Send, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = orjson.dumps(value)
        pairs = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        pairs += [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Running:
    """A running gateway and the services behind it."""

    url: str
    app: Gateway
    admin: httpx.AsyncClient
    admin_key: str
    services: dict[str, Service]
    new_client: Callable[..., httpx.AsyncClient]

    def client(self, credential: str | None = None, **options: Any) -> httpx.AsyncClient:
        """A client of its own; `credential` is a bearer token or an API key."""
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        return self.new_client(headers=headers, **options)

    async def key(self, *scopes: str, **options: Any) -> str:
        """A fresh API key of the gateway's tenant."""
        answer = await self.admin.post("/v1/keys", json={"name": "test", "scopes": list(scopes), **options})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    async def caller(self, *scopes: str) -> httpx.AsyncClient:
        return self.client(await self.key(*scopes))

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    async def raw(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and write bytes, however wrong."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(request)
        await writer.drain()
        return reader, writer


Start = Callable[..., Any]

# No client of a test is as slow as that, however busy the machine.
LIMITS = LimitSettings(
    load_bytes=4 << 20,
    client_idle_seconds=15,
    client_grace_seconds=15,
    client_min_bytes_per_second=1000,
    discard_bytes=8 << 20,
    discard_seconds=2,
    login_attempts_per_minute=5,
)


async def trickle(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever: the pace is what is tested, so it has to be kept by the clock."""
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.1)


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def start_gateway(database: Any, signing_keys: tuple[Path, Path]) -> Start:
    """`async with start_gateway(tenant=…, limits=…, ingest_url=…) as gateway`."""

    @asynccontextmanager
    async def start(
        *,
        tenant: str | None = None,
        reader_key: SecretStr | None = None,
        limits: LimitSettings = LIMITS,
        **urls: str,
    ) -> AsyncIterator[Running]:
        private, public = signing_keys
        admin_key = "lgk_" + secrets.token_urlsafe(32)
        async with AsyncExitStack() as stack:
            services = {}
            for name in ("catalog", "ingest", "lineage"):
                service = Service(name, verifier=TokenVerifier(public, name))
                service.url = await stack.enter_async_context(serving(service, lifespan="off"))
                services[name] = service
            addresses = {f"{name}_url": service.url for name, service in services.items()} | urls
            settings = GatewaySettings(
                postgres=PostgresSettings(url=SecretStr(database.url("gateway")), pool_max=4),
                token=KeySettings(private_key=private),
                bootstrap=BootstrapSettings(
                    key=SecretStr(admin_key), reader_key=reader_key, tenant=tenant or f"t{secrets.token_hex(4)}"
                ),
                limits=limits,
                **addresses,
            )
            app = create_app(settings)
            url = await stack.enter_async_context(serving(app))
            # the socket takes connections before that: who looks inside must not come too soon
            await eventually(lambda: hasattr(app.state, "resources"))

            def new_client(**options: Any) -> httpx.AsyncClient:
                client = httpx.AsyncClient(base_url=url, timeout=20, **options)
                stack.push_async_callback(client.aclose)
                return client

            admin = new_client(headers={"authorization": f"Bearer {admin_key}"})
            yield Running(url, app, admin, admin_key, services, new_client)

    start.limits = LIMITS  # type: ignore[attr-defined]
    return start


@pytest.fixture(scope="session")
async def shared(start_gateway: Start) -> AsyncIterator[Running]:
    async with start_gateway() as running:
        yield running


@pytest.fixture(scope="session")
async def shared_impatient(start_gateway: Start) -> AsyncIterator[Running]:
    limits = LIMITS.model_copy(update={"client_idle_seconds": 0.6, "client_grace_seconds": 1.2})
    async with start_gateway(limits=limits) as running:
        yield running


@pytest.fixture
def gateway(shared: Running) -> Running:
    """The shared gateway; its services have forgotten the test before."""
    return _forgetful(shared)


@pytest.fixture
def impatient(shared_impatient: Running) -> Running:
    """One that doesn't wait for slow clients. For them only: on a busy machine others are slow at times too."""
    return _forgetful(shared_impatient)


def _forgetful(running: Running) -> Running:
    for service in running.services.values():
        service.handler = None
        service.requests.clear()
    return running


def head(gateway: Any, method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {gateway.admin_key}", *headers, "", ""]
    return "\r\n".join(lines).encode()
