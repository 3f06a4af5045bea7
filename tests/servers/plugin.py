"""Fixtures `kafka`, `mongodb`, `s3`, `gcs`, `azure` and `collector`: a real server, or a skip; and the table at the
run's end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from servers import azure as azure_server
from servers import gcs as gcs_server
from servers import kafka as kafka_server
from servers import mongodb as mongodb_server
from servers import otlp
from servers import s3 as s3_server
from servers.finding import Servers, Source
from servers.processes import Missing

_SERVERS = pytest.StashKey[Servers]()
_BUILT: tuple[tuple[set[str], ModuleType], ...] = (
    ({"s3", "object_store"}, s3_server),
    ({"gcs", "object_store", "foreign_store"}, gcs_server),
    ({"azure", "object_store", "foreign_store"}, azure_server),
)
_ROWS = pytest.StashKey[list[tuple[str, str, str]]]()


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    names = os.environ.get("LAKEGATE_TEST_REQUIRE", "")
    found = Servers(tmp_path_factory.mktemp("servers"), frozenset(filter(None, names.split(","))))
    request.config.stash[_SERVERS] = found
    yield found
    found.stop()


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> kafka_server.Kafka:
    return _get(servers, "kafka", kafka_server.SOURCES)


@pytest.fixture(scope="session")
def secured_kafka(servers: Servers) -> kafka_server.SecuredKafka:
    return _get(servers, "kafka with a login", kafka_server.SECURED_SOURCES)


@pytest.fixture(scope="session")
def mongodb(servers: Servers) -> mongodb_server.MongoDB:
    return _get(servers, "mongodb", mongodb_server.SOURCES)


@pytest.fixture(scope="session")
def s3(servers: Servers) -> s3_server.S3:
    return _get(servers, "s3", s3_server.SOURCES)


@pytest.fixture(scope="session")
def gcs(servers: Servers) -> gcs_server.GCS:
    return _get(servers, "gcs", gcs_server.SOURCES)


@pytest.fixture(scope="session")
def azure(servers: Servers) -> azure_server.Azure:
    return _get(servers, "azure", azure_server.SOURCES)


@pytest.fixture(scope="session", params=["s3", "gcs", "azure"])
def object_store(request: pytest.FixtureRequest) -> Any:
    """A test that takes it is run on a server of every kind of object store."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["gcs", "azure"])
def foreign_store(request: pytest.FixtureRequest) -> Any:
    """An object store that does not speak S3, on a server of every kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def collector() -> Iterator[otlp.Collector]:
    """A collector of traces, for one test."""
    with otlp.collecting() as started:
        yield started


def _get(servers: Servers, name: str, sources: dict[str, Source]):  # type: ignore[no-untyped-def]
    try:
        return servers.get(name, sources)
    except Missing as reason:
        if servers.is_required(name):
            pytest.fail(f"no {name}: {reason}", pytrace=False)
        pytest.skip(f"no {name}: {reason}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what takes minutes to build or to fetch at once, beside the tests that don't need it."""
    if session.config.option.collectonly:
        return
    names = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    wanted = [server for fixtures, server in _BUILT if names & fixtures and not server.is_at_hand()]
    if wanted:
        threading.Thread(target=_build, args=(wanted,), daemon=True).start()


def _build(wanted: list[ModuleType]) -> None:
    """One after the other: each takes all processors."""
    for server in wanted:
        try:
            server.build()
        except Missing:
            continue  # the fixture tries again, and says why not


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes that share the tests tells the one that reports what it found."""
    servers = session.config.stash.get(_SERVERS, None)
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if servers is not None and output is not None:
        output["servers"] = servers.table()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    rows = node.config.stash.setdefault(_ROWS, [])
    rows += [tuple(row) for row in getattr(node, "workeroutput", {}).get("servers", [])]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    servers = config.stash.get(_SERVERS, None)
    rows = servers.table() if servers is not None else config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("servers")
    for name, origin, note in dict.fromkeys(sorted(rows)):
        terminalreporter.write_line(f"{name:<10} {origin:<9} {note}", red=origin == "MISSING")
