"""The routing table and the small rules beside it."""

from __future__ import annotations

from typing import Any

import pytest

from lakegate_contracts.identity import Scope
from lakegate_gateway.errors import TooManyRequests
from lakegate_gateway.identity.attempts import ADDRESS_FACTOR, MAX_TRACKED, Attempts
from lakegate_gateway.identity.scopes import narrow
from lakegate_gateway.routes import ROUTES, match


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/v1/loads", "/v1/loads"),
        ("/v1/loads/a/b", "/v1/loads"),
        ("/v1/loadsman", None),
        ("/v1", None),
        ("/", None),
        ("", None),
        ("/iceberg/v1/config", "/iceberg/v1/config"),
        ("/iceberg/v1/configuration", "/iceberg/v1"),
        ("/iceberg/v1/t/namespaces", "/iceberg/v1"),
        ("/iceberg/v1/oauth/tokens", None),
        ("/iceberg/v2/config", None),
        ("/api/v1/lineage/batch", "/api/v1/lineage"),
        ("/v1/lineage/graph", "/v1/lineage"),
        ("//v1/loads", None),
        ("/v1/keys", None),
    ],
)
def test_paths_match_by_whole_segments(path: str, prefix: str | None) -> None:
    route = match(path)
    assert (route.prefix if route else None) == prefix


def test_every_route_needs_some_scope() -> None:
    assert all(route.reads and route.writes for route in ROUTES)


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        ("admin", "loads:write@x", True),
        ("admin", "admin", True),
        ("loads:write", "loads:write@x", True),
        ("loads:write@x", "loads:write", False),
        ("loads:write@x.*", "loads:write@x.y", True),
        ("loads:write@x.*", "loads:write@x.y.*", True),
        ("loads:write@x.*", "loads:write@x", True),
        ("loads:write@x", "loads:write@x.*", False),
        ("loads:write@x.*", "loads:write@*", False),
        ("loads:write@x.*", "loads:write@x.?", False),
        ("loads:write@x*", "loads:write@xy.*", False),
        ("loads:write@*", "loads:write@x", True),
        ("datasets:read", "datasets:write", False),
        ("loads:write", "admin", False),
    ],
)
def test_a_scope_is_narrowed_and_never_widened(held: str, wanted: str, granted: bool) -> None:
    assert (narrow((held,), [wanted]) is not None) is granted


def test_attempts_are_counted_by_name_and_address_and_forgotten_after_a_minute() -> None:
    now = 0.0
    attempts = Attempts(3, clock=lambda: now)
    for _ in range(3):
        attempts.begin("ada", "10.0.0.1")
    with pytest.raises(TooManyRequests):
        attempts.begin("ada", "10.0.0.1")
    attempts.begin("ada", "10.0.0.2")  # somebody else's guesses don't lock her out
    attempts.begin("bob", "10.0.0.1")
    now = 61.0
    attempts.begin("ada", "10.0.0.1")


def test_failures_of_others_at_an_address_lock_nobody_out_there() -> None:
    attempts = Attempts(3)
    for number in range(60):
        attempts.begin(f"user {number % 30}", "10.0.0.1")
    attempts.begin("ada", "10.0.0.1")


def test_an_address_that_is_far_over_is_refused() -> None:
    attempts = Attempts(3)
    for number in range(3 * ADDRESS_FACTOR):
        attempts.begin(f"user {number}", "10.0.0.1")
    with pytest.raises(TooManyRequests):
        attempts.begin("ada", "10.0.0.1")
    attempts.begin("ada", "10.0.0.2")


def test_what_attempts_remember_is_bounded() -> None:
    attempts = Attempts(3)
    for number in range(MAX_TRACKED):
        attempts.begin(f"user {number}", f"10.0.{number // 256}.{number % 256}")
    assert len(attempts) <= MAX_TRACKED


def test_scope_names_are_those_of_the_contracts() -> None:
    used: set[Any] = {scope for route in ROUTES for scope in (*route.reads, *route.writes)}
    assert used <= set(Scope)
