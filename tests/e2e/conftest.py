"""A running suite to travel through: the one at E2E_URL (with E2E_KEY), or `lakegate up` on free ports.

Nothing of Lakegate is imported below this folder: what these tests can do, any HTTP client can do.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from suites import Push, Suite, start_suite

# Two suites of one test run must not share a table, nor must two runs against one cluster.
_RUN = f"e2e{int(time.time() * 1000):x}"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """One suite for all journeys."""
    if url := os.environ.get("E2E_URL"):
        yield Suite(url.rstrip("/"), os.environ["E2E_KEY"])
        return
    started = start_suite(tmp_path_factory.mktemp("suite"))
    yield started
    started.stop()


@pytest.fixture
def own_suite(tmp_path: Path) -> Iterator[Suite]:
    """A suite that a test may hurt."""
    if os.environ.get("E2E_URL"):
        pytest.skip("hurts processes: only on a suite of its own")
    started = start_suite(tmp_path)
    yield started
    if started.process is not None and started.process.poll() is None:
        started.stop()


@pytest.fixture(scope="session")
def lake(suite: Suite) -> Iterator[httpx.Client]:
    """An HTTP client with the admin's key."""
    with suite.client() as client:
        yield client


@pytest.fixture
def table() -> str:
    """A table name that nobody used before."""
    return f"{_RUN}.t{next(_numbers)}"


@pytest.fixture(scope="session")
def push(lake: httpx.Client) -> Push:
    """`push(table, body, **query)`: one POST, the raw answer."""

    def send(table: str, body: Any, *, headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
        namespace, _, name = table.rpartition(".")
        return lake.post(f"/v1/loads/{namespace}/{name}", params=query, content=body, headers=headers)

    return send
