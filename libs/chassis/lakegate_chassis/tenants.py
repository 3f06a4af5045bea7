"""Classes of tenants: how metrics tell customers apart without a label for each of them."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

DEFAULT_CLASS = "standard"
NOBODY = "none"  # the request was refused before anyone knew whose it was, or needs no caller


def class_of(classes: Mapping[str, str], scope: Scope) -> str:
    """The class of the request's tenant; few values, whatever callers send."""
    principal = scope.get("principal")
    if principal is None:
        return NOBODY
    return classes.get(principal.tenant, DEFAULT_CLASS)
