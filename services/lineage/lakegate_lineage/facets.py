"""Facets as they are shown."""

from __future__ import annotations

from typing import Any

import orjson

Facets = dict[str, Any]


def to_facets(rows: list[Any]) -> Facets:
    """Stored facets (name, body) by name, without those that were taken back."""
    return without_deleted({row["name"]: orjson.loads(row["body"]) for row in rows})


def without_deleted(facets: Facets) -> Facets:
    """A facet with `_deleted: true` takes the facet of that name away. OpenLineage 'BaseFacet'."""
    return {
        name: facet for name, facet in facets.items() if not (isinstance(facet, dict) and facet.get("_deleted") is True)
    }
