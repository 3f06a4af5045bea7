"""Rows through the engine: the same rules, the same Parquet and the same reasons as those of a load."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from pyiceberg.schema import Schema

from lakegate_ingest import engine
from lakegate_ingest.streams.requests import OnNewColumn

_ROWS = "rows.ndjson"
# Rows that the engine refuses as a whole although each was screened are halved until those at fault are found; after so
# many readings the rows behind are left for the next time.
_MOST_TRIES = 64


@dataclass(frozen=True)
class Reject:
    """A row that does not fit: `index` is its place among those that were read."""

    index: int
    column: str | None
    value: str | None
    reason: str


@dataclass
class Read:
    """What became of the rows: `files` in `folder` hold all but the rejected ones, for a table of `schema`.

    `unread`: the place of the first row that nothing is said of, nor of those behind it; None when all were read.
    """

    schema: Schema
    rows_written: int = 0
    files: tuple[engine.DataFile, ...] = ()
    rejects: list[Reject] = field(default_factory=list)
    unread: int | None = None


@dataclass(frozen=True)
class Target:
    """The table that rows are read for; `schema` None: its columns are yet to be inferred."""

    schema: Schema | None
    last_column_id: int | None
    on_new_column: OnNewColumn


def read_rows(rows: Sequence[bytes], target: Target, folder: Path, limits: engine.EngineLimits, *, name: str) -> Read:
    """Read screened rows, one a line. Blocks. Raises EngineError when the disk or the memory is at fault."""
    path = folder / _ROWS
    with path.open("wb") as file:
        file.writelines(row + b"\n" for row in rows)
    try:
        return _read_file(path, len(rows), target, folder, limits, name)
    except engine.Unreadable:
        return _read_one_by_one(rows, target, folder, limits, name)


def _read_file(path: Path, records: int, target: Target, folder: Path, limits: engine.EngineLimits, name: str) -> Read:
    options = engine.ReadOptions(format=engine.Format.NDJSON, encoding=None)
    result = engine.write(
        [engine.Source(path=path, name=name, options=options, records=records)],
        target.schema,
        on_new_column=target.on_new_column,
        last_column_id=target.last_column_id,
        out_dir=folder / "out",
        quarantine_dir=folder / "rejects",
        work_dir=folder / "work",
        limits=limits,
    )
    rejects = [reject for file in result.quarantine_files for reject in _rejects(file.path)]
    return Read(result.schema, result.rows_written, result.data_files, rejects)


def _rejects(path: Path) -> list[Reject]:
    table = pq.read_table(path, columns=["line", "column", "value", "reason"])
    return [Reject(item["line"] - 1, item["column"], item["value"], item["reason"]) for item in table.to_pylist()]


def _read_one_by_one(
    rows: Sequence[bytes], target: Target, folder: Path, limits: engine.EngineLimits, name: str
) -> Read:
    """Find the rows that the engine can't read together with others, and read the rest."""
    refused: dict[int, str] = {}
    tries = _MOST_TRIES
    unread: int | None = None
    waiting = [list(range(len(rows)))]
    good: list[int] = []
    while waiting:
        part = waiting.pop()
        if tries <= 0:
            unread = part[0]
            break
        tries -= 1
        _clear(folder)
        path = folder / "part.ndjson"
        path.write_bytes(b"".join(rows[index] + b"\n" for index in part))
        try:
            _read_file(path, len(part), target, folder, limits, name)
        except engine.Unreadable as error:
            if len(part) == 1:
                refused[part[0]] = error.detail
                continue
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
        else:
            good += part
    good.sort()
    rejects = [Reject(index, None, None, reason) for index, reason in sorted(refused.items())]
    if not good:
        assert target.schema is not None or rejects
        return Read(target.schema or Schema(), rejects=rejects, unread=unread)
    _clear(folder)
    path = folder / _ROWS
    path.write_bytes(b"".join(rows[index] + b"\n" for index in good))
    found = _read_file(path, len(good), target, folder, limits, name)
    moved = [Reject(good[reject.index], reject.column, reject.value, reject.reason) for reject in found.rejects]
    in_order = sorted(rejects + moved, key=lambda item: item.index)
    return Read(found.schema, found.rows_written, found.files, in_order, unread)


def _clear(folder: Path) -> None:
    for left in ("out", "rejects", "work"):
        shutil.rmtree(folder / left, ignore_errors=True)
