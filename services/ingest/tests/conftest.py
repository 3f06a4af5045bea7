"""Ingest under test: real PostgreSQL, the real catalog as a process of its own, real keys, real ports."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, Response
from pydantic import SecretStr

from lakegate.embedded.ports import free_ports
from lakegate.embedded.processes import die_with_parent
from lakegate_chassis.settings import InternalTokenSettings, PostgresSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_chassis.tokens import InvalidToken, TokenSigner, TokenVerifier
from lakegate_contracts.identity import DELEGATION_TYPE, Principal
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import (
    CommitSettings,
    IngestSettings,
    JobSettings,
    QuarantineSettings,
    SpoolSettings,
)

ALL_SCOPES = ("loads:write", "datasets:read", "datasets:write")


class Identity:
    """The gateway's part: signs internal tokens and delegations with one key."""

    def __init__(self, folder: Path) -> None:
        self.signer = TokenSigner(Ed25519PrivateKey.generate())
        self.jwks = folder / "jwks.json"
        self.jwks.write_bytes(orjson.dumps({"keys": [self.signer.jwk]}))
        self.delegations = TokenVerifier(self.jwks, "ingest", token_type=DELEGATION_TYPE)

    def headers(self, tenant: str, scopes: tuple[str, ...] = ALL_SCOPES) -> dict[str, str]:
        principal = Principal(tenant=tenant, subject="ana", scopes=scopes)
        delegation = self.delegation(principal)
        token = self.signer.mint(principal, "ingest", lifetime_seconds=3600)
        return {"authorization": f"Bearer {token}", "lakegate-delegation": delegation}

    def delegation(self, principal: Principal) -> str:
        return self.signer.mint(principal, "ingest", lifetime_seconds=86400, token_type=DELEGATION_TYPE)

    def exchange_app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/internal/token")
        async def exchange(
            subject_token: Annotated[str, Form()],
            audience: Annotated[str, Form()] = "",
            requested_token_type: Annotated[str, Form()] = "",
            scope: Annotated[str, Form()] = "",
        ) -> JSONResponse:
            try:
                principal = self.delegations.verify(subject_token)
            except InvalidToken as error:
                return JSONResponse({"error": "invalid_grant", "error_description": str(error)}, 400)
            if requested_token_type:
                narrowed = principal.model_copy(update={"scopes": (scope,)})
                return JSONResponse({"access_token": self.delegation(narrowed), "expires_in": 86400})
            if any(held.startswith("loads:write") for held in principal.scopes):
                # as the gateway has it: who may load into a namespace may have its tables made
                extra = tuple(f"datasets:{right}@*" for right in ("read", "write"))
                principal = principal.model_copy(update={"scopes": principal.scopes + extra})
            return JSONResponse({"access_token": self.signer.mint(principal, audience), "expires_in": 60})

        return app


@dataclass
class Process:
    """A service as a child process on fixed ports, which a test may kill and start again."""

    module: str
    environment: dict[str, str]
    log: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        await asyncio.to_thread(self._spawn)
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            await eventually(lambda: self._ready(client), within_seconds=40)

    def _spawn(self) -> None:
        prefix = self.module.removeprefix("lakegate_").partition(".")[0].upper()
        ports = {f"{prefix}_PORT": str(self.port), f"{prefix}_MANAGEMENT_PORT": str(free_ports(1)[0])}
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env={"PATH": os.environ["PATH"], **self.environment, **ports},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    async def _ready(self, client: httpx.AsyncClient) -> bool:
        assert self.child is not None
        assert self.child.poll() is None, self.log.read_text()[-3000:]
        try:
            return (await client.get(f"{self.url}/startupz")).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL: what power loss and the OOM killer do."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None


@pytest.fixture(scope="session")
def process() -> type[Process]:
    """Process(module, environment, log)"""
    return Process


class Gate:
    """A way to the catalog that can hold a request, or lose it or its answer, as networks do.

    `on(method, path end)` picks the requests; `mode` is what happens to the next one of them.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.mode = "pass"
        self.picked: tuple[str, str] = ("", "")
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.url = ""
        # nothing arrives any more, and whoever was held does not either
        self.away = False

    def on(self, method: str, path_end: str, mode: str) -> None:
        """Modes: lose (never arrives), lose-answer, hold (until released), hold-answer, conflict (409 every time)."""
        self.picked, self.mode = (method, path_end), mode
        self.reached.clear()
        self.released.clear()

    def app(self) -> FastAPI:
        app = FastAPI()
        client = httpx.AsyncClient(trust_env=False, timeout=30)

        @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE", "HEAD"])
        async def relay(request: Request) -> Response:
            mode = "pass"
            raw = request.scope["raw_path"].decode()
            if request.method == self.picked[0] and raw.endswith(self.picked[1]):
                mode = self.mode
                self.mode = mode if mode == "conflict" else "pass"
                self.reached.set()
            if mode == "conflict":
                error = {"message": "lost", "type": "CommitFailedException", "code": 409}
                return JSONResponse({"error": error}, 409)
            if mode == "lose":
                return Response(status_code=502)
            if mode == "hold":
                await self.released.wait()
            if self.away:
                return Response(status_code=502)
            content = await request.body()
            headers = {key: request.headers[key] for key in ("authorization", "content-type") if key in request.headers}
            try:
                answer = await client.request(request.method, self.target + raw, content=content, headers=headers)
            except httpx.HTTPError:
                return Response(status_code=502)
            if mode == "lose-answer":
                return Response(status_code=502)
            if mode == "hold-answer":
                await self.released.wait()
            passed = {
                key: value for key, value in answer.headers.items() if key.startswith(("lakegate", "content-type"))
            }
            return Response(answer.content, answer.status_code, passed)

        return app


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="session")
async def exchange_url(identity: Identity) -> AsyncIterator[str]:
    async with serving(identity.exchange_app()) as url:
        yield f"{url}/internal/token"


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warehouse")


def catalog_process(database: Any, identity: Identity, warehouse: Path, folder: Path) -> Process:
    return Process(
        "lakegate_catalog",
        {
            "CATALOG_POSTGRES__URL": database.url("catalog"),
            "CATALOG_TOKEN__JWKS": str(identity.jwks),
            "CATALOG_WAREHOUSE__LOCATION": f"file://{warehouse}",
            "CATALOG_SEARCH__DIR": str(folder / "search"),
            "CATALOG_DRAIN_SECONDS": "0",
        },
        folder / "catalog.log",
    )


@pytest.fixture(scope="session")
def make_catalog(database: Any, identity: Identity) -> Any:
    """make_catalog(folder, **environment) -> a catalog of its own, not started."""

    def make(folder: Path, **changes: str) -> Process:
        made = catalog_process(database, identity, folder, folder)
        made.environment |= changes
        return made

    return make


@pytest.fixture(scope="session")
async def catalog(
    database: Any, identity: Identity, warehouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Process]:
    """The catalog that all tests share; the tests that kill one start their own."""
    process = catalog_process(database, identity, warehouse, tmp_path_factory.mktemp("catalog"))
    await process.start()
    yield process
    process.kill()


@pytest.fixture
async def own_catalog(database: Any, identity: Identity, warehouse: Path, tmp_path: Path) -> AsyncIterator[Process]:
    process = catalog_process(database, identity, warehouse, tmp_path)
    await process.start()
    yield process
    process.kill()


@pytest.fixture
async def gate(catalog: Process) -> AsyncIterator[Gate]:
    made = Gate(catalog.url)
    async with serving(made.app()) as url:
        made.url = url
        yield made
        made.released.set()


@dataclass(frozen=True)
class Settings:
    """Makes ingest settings for this run; keyword arguments replace sections."""

    database: Any
    identity: Identity
    exchange_url: str
    warehouse: Path

    def __call__(self, catalog_url: str, spool_dir: Path, **changes: Any) -> IngestSettings:
        given: dict[str, Any] = {
            "port": 0,
            "management_port": 0,
            "drain_seconds": 0,
            "postgres": PostgresSettings(url=SecretStr(self.database.url("ingest"))),
            "token": InternalTokenSettings(jwks=self.identity.jwks),
            "catalog_url": catalog_url,
            "token_exchange_url": self.exchange_url,
            "spool": SpoolSettings(dir=spool_dir),
            "quarantine": QuarantineSettings(location=f"file://{self.warehouse}"),
            "commit": CommitSettings(timeout_seconds=5, settle_seconds=5),
            "job": JobSettings(sweep_seconds=0.5, sse_heartbeat_seconds=0.2),
        }
        return IngestSettings(**given | changes)

    def environment(self, catalog_url: str, spool: Path, **changes: str) -> dict[str, str]:
        return {
            "INGEST_POSTGRES__URL": self.database.url("ingest"),
            "INGEST_TOKEN__JWKS": str(self.identity.jwks),
            "INGEST_CATALOG_URL": catalog_url,
            "INGEST_TOKEN_EXCHANGE_URL": self.exchange_url,
            "INGEST_SPOOL__DIR": str(spool),
            "INGEST_QUARANTINE__LOCATION": f"file://{self.warehouse}",
            "INGEST_COMMIT__TIMEOUT_SECONDS": "3",
            "INGEST_COMMIT__SETTLE_SECONDS": "3",
            "INGEST_JOB__SWEEP_SECONDS": "0.5",
            "INGEST_DRAIN_SECONDS": "0",
            **changes,
        }


@pytest.fixture(scope="session")
def settings(database: Any, identity: Identity, exchange_url: str, warehouse: Path) -> Settings:
    return Settings(database, identity, exchange_url, warehouse)


@pytest.fixture(scope="session")
def shared_job() -> JobSettings:
    """For an ingest that outlives a test: it would take over what another test's process hands back to whoever comes
    next, and has not its spool. So it hardly ever looks."""
    return JobSettings(sweep_seconds=3600, sse_heartbeat_seconds=0.2)


@pytest.fixture(scope="session")
async def ingest_url(
    settings: Settings, catalog: Process, shared_job: JobSettings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """Ingest on a port of its own, shared by all tests that need no special settings."""
    app = create_app(settings(catalog.url, tmp_path_factory.mktemp("spool"), job=shared_job))
    async with serving(app) as url:
        yield url


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """disk_of(megabytes) -> a file system of that size, where mounting one is allowed."""
    mounted: list[Path] = []

    def mount(megabytes: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True)
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def tenant() -> str:
    """A tenant of its own for each test, so that nothing is shared but the servers."""
    return f"t{uuid4().hex[:10]}"


class Api:
    """What a caller does, as one tenant."""

    def __init__(self, client: httpx.AsyncClient, identity: Identity, tenant: str) -> None:
        self.client = client
        self.identity = identity
        self.tenant = tenant

    async def load(
        self, table: str, body: Any, *, params: dict[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        namespace, _, name = table.rpartition(".")
        return await self.client.post(f"/v1/loads/{namespace}/{name}", content=body, params=params, headers=named)

    async def completed(self, answer: httpx.Response) -> dict[str, Any]:
        """The receipt of a load that succeeds; one that outlives its request is waited for."""
        if answer.status_code == 201:
            receipt: dict[str, Any] = answer.json()
        else:
            assert answer.status_code == 202, answer.text
            load = await self.ended(answer.json()["load_id"], within_seconds=90)
            assert load["state"] == "completed", load
            receipt = load["receipt"]
        return receipt

    async def rows(self, table: str, **params: Any) -> list[dict[str, Any]]:
        namespace, _, name = table.rpartition(".")
        answer = await self.client.get(f"/v1/tables/{namespace}/{name}/rows", params=params)
        assert answer.status_code == 200, answer.text
        return [orjson.loads(line) for line in answer.content.splitlines()]

    async def ended(self, load_id: str, within_seconds: float = 30) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            load: dict[str, Any] = (await self.client.get(f"/v1/loads/{load_id}")).json()
            return load if load["state"] in ("completed", "failed") else None

        found = await eventually(look, within_seconds=within_seconds)
        assert found is not None
        return found


def make_api(url: str, identity: Identity, tenant: str, scopes: tuple[str, ...] = ALL_SCOPES) -> Api:
    client = httpx.AsyncClient(base_url=url, headers=identity.headers(tenant, scopes), timeout=60, trust_env=False)
    return Api(client, identity, tenant)


@pytest.fixture
async def api(ingest_url: str, identity: Identity, tenant: str) -> AsyncIterator[Api]:
    made = make_api(ingest_url, identity, tenant)
    yield made
    await made.client.aclose()


@pytest.fixture
async def make(identity: Identity) -> AsyncIterator[Any]:
    """make(url, tenant, scopes) -> Api"""
    made: list[Api] = []

    def build(url: str, tenant: str, scopes: tuple[str, ...] = ALL_SCOPES) -> Api:
        made.append(make_api(url, identity, tenant, scopes))
        return made[-1]

    yield build
    for item in made:
        await item.client.aclose()


@pytest.fixture
def start_ingest(settings: Settings, tmp_path: Path) -> Iterator[Any]:
    """start_ingest(catalog_url, **environment) -> Process, killed at the end."""
    started: list[Process] = []

    async def start(catalog_url: str, **changes: str) -> Process:
        environment = settings.environment(catalog_url, tmp_path / "spool", **changes)
        process = Process("lakegate_ingest", environment, tmp_path / "ingest.log")
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        process.kill()
