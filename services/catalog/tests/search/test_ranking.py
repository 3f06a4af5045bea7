"""What ranks above what, whatever else the index holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from lakegate_catalog.search.index import Entry, SearchIndex
from lakegate_catalog.search.query import Wanted, search

OURS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("trips", ("flight",)),
    ("flights_archive_of_all_airlines", ()),
    ("every flight of the year and of those before", ()),
    ("delays of a flight", ()),
    ("flight", ()),
)


def dataset(name: str, columns: tuple[str, ...]) -> dict[str, Any]:
    fields = [{"name": column} for column in columns]
    return {"name": name, "kind": "table", "tags": [], "owner": None, "description": "", "schema": {"fields": fields}}


def entry(tenant: str, name: str, *columns: str) -> Entry:
    return Entry(tenant, f"{tenant}-{name}", 1, "a", dataset(name, columns))


def ranked(index: SearchIndex, text: str) -> list[str]:
    return [orjson.loads(body)["name"] for _, body in search(index, Wanted("ours", text)).hits]


@pytest.mark.parametrize("others", [0, 400], ids=["alone", "among others"])
@pytest.mark.parametrize("columns", [("id",), ("id", "flight")], ids=["a rare word", "a common word"])
def test_the_datasets_of_others_do_not_change_what_ranks_above_what(
    tmp_path: Path, others: int, columns: tuple[str, ...]
) -> None:
    index = SearchIndex(tmp_path, 15_000_000)
    index.apply([entry("others", f"table{number}", *columns) for number in range(others)], 1)
    for position, (name, own) in enumerate(OURS, start=2):
        index.apply([entry("ours", name, *own)], position)
    assert ranked(index, "flight") == [
        "flight",
        "delays of a flight",
        "every flight of the year and of those before",
        "flights_archive_of_all_airlines",
        "trips",
    ]
    index.close()
