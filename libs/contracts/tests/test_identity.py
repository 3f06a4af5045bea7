from __future__ import annotations

import pytest

from lakegate_contracts.identity import Principal, Scope


def holder(*scopes: str) -> Principal:
    return Principal(tenant="acme", subject="bob", scopes=scopes)


@pytest.mark.parametrize(
    ("held", "namespace", "allowed"),
    [
        ("loads:write", "travel", True),
        ("loads:write@travel", "travel", True),
        ("loads:write@travel", "travel.eu", False),
        ("loads:write@travel.*", "travel.eu", True),
        ("loads:write@travel.*", "travel", True),
        ("loads:write@travel.*", "travels", False),
        ("loads:write@*", "anything.below", True),
        ("datasets:read", "travel", False),
        ("admin", "travel", True),
        ("admin@travel.*", "shop", False),
        ("loads:write@travel.*", None, True),
    ],
)
def test_a_scope_covers_the_namespaces_of_its_pattern(held: str, namespace: str | None, allowed: bool) -> None:
    assert holder(held).allows(Scope.LOADS_WRITE, namespace) is allowed


def test_any_one_of_several_scopes_is_enough() -> None:
    assert holder("datasets:read", "loads:write@shop.*", "loads:write@travel").allows(Scope.LOADS_WRITE, "travel")
