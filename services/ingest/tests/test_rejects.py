"""Rejected rows are read from any position on, however their file was cut into row groups, and never all at once."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from lakegate_chassis.objectstore import ObjectStoreSettings
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.engine import Format, ReadOptions, Source, write
from lakegate_ingest.engine.pieces import PIECE_BYTES
from lakegate_ingest.engine.quarantine import GROUP_ROWS, SCHEMA, WRITING
from lakegate_ingest.engine.sinks import ParquetSink
from lakegate_ingest.errors import RejectsUnreadable
from lakegate_ingest.loads.rejects import START, headers, lines, page

Files = list[tuple[int, str]]
LAYOUTS: dict[str, dict[str, Any]] = {
    "now": {"group": 350, "writing": WRITING},
    "one group for all": {"group": 1 << 20, "writing": WRITING},
    "dictionaries of everything": {"group": 1 << 20, "writing": {}},
}


def faults(first: int, count: int, *, row: str = "x{0},y{0}") -> list[dict[str, Any]]:
    return [
        {
            "row_id": number // 2,
            "file": "a.csv",
            "line": number // 2 + 2,
            "column": "ab"[number % 2],
            "value": f"{'xy'[number % 2]}{number // 2}" if number % 7 else None,
            "reason": "not a whole number (long)",
            "row": row.format(number // 2),
        }
        for number in range(first, first + count)
    ]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(f"file://{tmp_path}", ObjectStoreSettings())


def put(folder: Path, number: int, records: list[dict[str, Any]], *, group: int, writing: Any) -> str:
    path = folder / f"{number}.parquet"
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", **writing) as file:
        file.write_table(pa.Table.from_pylist(records, SCHEMA), row_group_size=group)
    return path.as_uri()


def following(cursor: str | None) -> tuple[int, int]:
    file, offset = (cursor or "").split(".")
    return int(file), int(offset)


def pages(warehouse: Warehouse, files: Files, limit: int) -> list[list[dict[str, Any]]]:
    found = []
    items, cursor = page(warehouse, files, START, limit)
    found.append([item.model_dump() for item in items])
    while cursor:
        items, cursor = page(warehouse, files, following(cursor), limit)
        found.append([item.model_dump() for item in items])
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_are_found_in_order_from_every_position_on(tmp_path: Path, warehouse: Warehouse, layout: str) -> None:
    # numbered among the files of the load's data: from anywhere on, with gaps
    written = {4: faults(0, 2500), 5: faults(2500, 1300), 9: faults(3800, 1)}
    files = [(number, put(tmp_path, number, part, **LAYOUTS[layout])) for number, part in written.items()]
    whole = faults(0, 3801)
    placed = [((number, at), record) for number, part in written.items() for at, record in enumerate(part)]

    for limit in (500, 499, 3801):
        cut = pages(warehouse, files, limit)
        assert list(chain(*cut)) == whole
        assert {len(part) for part in cut[:-1]} <= {limit}
    for start in (START, (4, 349), (4, 350), (4, 2499), (4, 2500), (5, 1), (5, 1299), (7, 3), (9, 0), (9, 1)):
        rest = [record for position, record in placed if position >= start]
        items, cursor = page(warehouse, files, start, 500)
        assert [item.model_dump() for item in items] == rest[:500]
        assert (cursor is None) == (len(rest) <= 500)
        chunks = list(lines(warehouse, files, start, 500))
        assert [orjson.loads(line) for line in b"".join(chunks).splitlines()] == rest
        assert all(chunk.count(b"\n") <= 500 for chunk in chunks)
    assert page(warehouse, files, (9, 1 << 40), 10) == page(warehouse, files, (10, 0), 10) == ([], None)


def test_large_rows_come_in_few_at_once(tmp_path: Path, warehouse: Warehouse) -> None:
    """A thousand of them in one answer would be more than a process may hold."""
    large = faults(0, 8, row="{0}" + "z" * (3 << 20))
    files = [(0, put(tmp_path, 0, large, group=GROUP_ROWS, writing=WRITING))]

    cut = pages(warehouse, files, 1000)

    assert list(chain(*cut)) == large
    assert {len(part) for part in cut} == {2}
    chunks = list(lines(warehouse, files, START, 1000))
    assert [orjson.loads(line) for chunk in chunks for line in chunk.splitlines()] == large
    assert max(map(len, chunks)) < PIECE_BYTES + (1 << 20)


def test_what_a_page_does_not_show_is_not_read(tmp_path: Path, warehouse: Warehouse) -> None:
    """The first two thirds of a quarantine are overwritten: its last page is still there."""
    count = 3 * GROUP_ROWS
    data = "a\n1\n" + "".join(f"x{number}\n" for number in range(count))
    sent = tmp_path / "a.csv"
    sent.write_text(data)
    folders = {f"{kind}_dir": tmp_path / kind for kind in ("out", "quarantine", "work")}
    longs = Schema(NestedField(1, "a", LongType(), required=False))
    result = write([Source(sent, "a.csv", ReadOptions(Format.CSV), count + 1)], longs, **folders)
    [file] = result.quarantine_files
    metadata = pq.read_metadata(file.path)
    assert max(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)) <= GROUP_ROWS
    at = metadata.row_group(metadata.num_row_groups - 1).column(0).data_page_offset
    with file.path.open("r+b") as parquet:
        parquet.seek(4)
        parquet.write(b"\xff" * (at - 4))

    items, cursor = page(warehouse, [(0, file.path.as_uri())], (0, count - 1000), 1000)

    assert [item.row for item in items] == [f"x{number}" for number in range(count - 1000, count)]
    assert cursor is None


def test_large_rows_with_many_faults_are_written_few_at_once(tmp_path: Path) -> None:
    """The text of such a row stands in the file once for each fault: all at once they would be 300 MB."""
    rows, each = 10, 100
    which = pa.array([row for row in range(rows) for _ in range(each)], pa.int64())
    texts = pa.array([f"x{row}," + "y" * 300_000 for row in range(rows)])
    same = {name: pa.repeat(pa.scalar(name), rows * each) for name in ("file", "column", "value", "reason")}
    coded = pa.DictionaryArray.from_arrays(which.cast(pa.int32()), texts)
    sink = ParquetSink(tmp_path, "rejects", SCHEMA, 1 << 30, WRITING, GROUP_ROWS)
    sink.write(pa.table({"row_id": which, "line": which, "row": coded} | same).select(SCHEMA.names).cast(SCHEMA))
    [file] = sink.finish()

    metadata = pq.read_metadata(file.path)
    assert max(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)) <= PIECE_BYTES
    found = pq.read_table(file.path, columns=["row_id"])["row_id"]
    assert found.to_pylist() == which.to_pylist()


@pytest.mark.parametrize("damage", ["deleted", "cut", "overwritten"])
def test_a_file_of_rejected_rows_that_is_gone_or_damaged_is_named(
    warehouse: Warehouse, tmp_path: Path, damage: str
) -> None:
    files = [(0, put(tmp_path, 0, faults(0, 100), **LAYOUTS["now"]))]
    path = tmp_path / "0.parquet"
    written = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(written[:-20] if damage == "cut" else b"\xaa" * 400 + written[400:])
    for read in (lambda: page(warehouse, files, START, 10), lambda: list(lines(warehouse, files, START, 10))):
        with pytest.raises(RejectsUnreadable, match=r"0\.parquet"):
            read()
    if damage != "overwritten":
        with pytest.raises(RejectsUnreadable, match=r"0\.parquet"):
            headers(warehouse, files)
