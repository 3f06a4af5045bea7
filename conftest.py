"""What all tests share: one real PostgreSQL for the run, with every migration in it."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate.embedded.processes import die_with_parent
from lakegate_chassis.provision import SERVICES, provision, with_database
from lakegate_chassis.tokens import TokenSigner

pytest_plugins = ["servers.plugin"]

# What a failed test shows has to be readable, and quick to make. structlog's own default draws each traceback with all
# its variables, for which the event loop of a busy machine stood still for seconds; aiokafka tells of each client and
# each broker that it tries again, hundreds of times where a test kills one.
_RENDERER = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _RENDERER])
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

# The same examples every time, however slow the machine is in making them. For new ones, and more:
# pytest services/ingest/tests/engine --hypothesis-profile=deep
settings.register_profile(
    "tests", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", max_examples=2000, deadline=None)
settings.load_profile("tests")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes that are no text go by their argument's name: a gzip says little, and has the time in it.

    The processes of `make test` each collect the tests, and have to find the same names.
    """
    return argname if isinstance(val, bytes) and not re.fullmatch(rb"[\t\r\n -~]*", val) else None


@dataclass(frozen=True)
class Database:
    """A database of this run, migrated; `admin_url` is a superuser's on the same database."""

    name: str
    admin_url: str
    urls: dict[str, str]

    def url(self, service: str) -> str:
        """URL of the application role of `service` ("catalog"), which is under row-level security."""
        return self.urls[service]


@pytest.fixture(scope="session")
def postgres_admin_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """LAKEGATE_TEST_POSTGRES_URL, or an embedded server that lives as long as the run.

    Roles belong to a server, not to a database: one run at a time on a server given by URL.
    """
    given = os.environ.get("LAKEGATE_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), in_child=die_with_parent(signal.SIGQUIT))
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def signer() -> TokenSigner:
    """Signs internal tokens in place of the gateway."""
    return TokenSigner(Ed25519PrivateKey.generate())


@pytest.fixture(scope="session")
def jwks(signer: TokenSigner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file by which a service knows the signer."""
    path: Path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_bytes(orjson.dumps({"keys": [signer.jwk]}))
    return path


@pytest.fixture(scope="session")
async def database(postgres_admin_url: str) -> AsyncIterator[Database]:
    name = f"lakegate_test_{secrets.token_hex(4)}"
    passwords = {service: secrets.token_urlsafe(16) for service in SERVICES}
    urls = await provision(postgres_admin_url, passwords, database=name)
    yield Database(name, with_database(postgres_admin_url, name), urls)
    admin = await asyncpg.connect(postgres_admin_url)
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()
