"""A lineage service of its own for a benchmark: a temporary PostgreSQL and `python -m lakegate_lineage`."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_chassis.provision import provision
from lakegate_chassis.tokens import TokenSigner
from lakegate_contracts.identity import Principal

TENANT = "bench"
DATABASE = "bench"


@dataclass(frozen=True)
class Service:
    port: int
    token: str
    admin_url: str
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def lineage_service() -> AsyncIterator[Service]:
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "pg")
        admin_url = postgres.start()
        try:
            urls = await provision(admin_url, {"lineage": secrets.token_urlsafe(12)}, database=DATABASE)
            signer = TokenSigner(Ed25519PrivateKey.generate())
            jwks = Path(folder) / "jwks.json"
            jwks.write_bytes(orjson.dumps({"keys": [signer.jwk]}))
            port, management_port = _free_port(), _free_port()
            environment = {
                **os.environ,
                "LINEAGE_POSTGRES__URL": urls["lineage"],
                "LINEAGE_TOKEN__JWKS": str(jwks),
                "LINEAGE_PORT": str(port),
                "LINEAGE_MANAGEMENT_PORT": str(management_port),
                "LINEAGE_DRAIN_SECONDS": "0",
            }
            # the access log goes to a file, as it does under `lakegate up`
            with (Path(folder) / "lineage.log").open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "lakegate_lineage", env=environment, stdout=output, stderr=output
                )
                principal = Principal(tenant=TENANT, subject="bench", scopes=("admin",))
                token = signer.mint(principal, "lineage", lifetime_seconds=3600)
                service = Service(port, token, admin_url.rpartition("/")[0] + f"/{DATABASE}", process.pid)
                try:
                    await _ready(service.url)
                    yield service
                finally:
                    process.send_signal(signal.SIGTERM)
                    await process.wait()
        finally:
            postgres.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _ready(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(200):
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("the lineage service did not get ready within 20 s")


async def admin(service: Service) -> asyncpg.Connection:
    return await asyncpg.connect(service.admin_url)
