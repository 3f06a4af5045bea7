"""Files that are hard on memory, loaded whole: `python -m bench.hard_files`.

Each goes through the gateway to a table that exists. Every row must be accounted for, or the file refused for the
reason that is expected. `memory` is the peak of the ingest process's anonymous memory in MB; limit 400, and no more
for 10 GB than for 1 GB.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import data, suite
from bench.front_door import load, peak_memory

CHUNK = 8_000_000


@dataclass(frozen=True)
class Hard:
    """A file by name, how it is written (path, bytes; returns its rows), and what it is refused for, if it is."""

    name: str
    form: data.Format
    write: Callable[[Path, int], int]
    times: int = 1  # its size in units of --mb
    refused: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1000, help="one unit of size in MB (10^6 bytes)")
    parser.add_argument("--only", nargs="+", choices=[hard.name for hard in FILES], default=None)
    asked = parser.parse_args()
    table = Table("file", "MB", "seconds", "MB/s", "rows in", "written", "quarantined", "refused as", "memory MB")
    for column in table.columns[1:]:
        column.justify = "right"
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder, suite.temporary() as up:
        for hard in FILES:
            if asked.only is None or hard.name in asked.only:
                measure(table, Path(folder), up, hard, asked.mb * 1_000_000 * hard.times)
    Console(width=140).print(table)


def measure(table: Table, folder: Path, up: suite.Suite, hard: Hard, size_bytes: int) -> None:
    """One row of the table. Exits when a row is missing, or a refusal is not the expected one."""
    target = f"bench.{hard.name.replace('-', '_')}"
    small = folder / f"small.{hard.form}"
    data.write(small, hard.form, 100_000)
    load(up, small, hard.form, target)
    file = folder / f"{hard.name}.{hard.form}"
    rows = hard.write(file, size_bytes)
    size = file.stat().st_size / 1e6
    with peak_memory(up.pid("ingest")) as peak:
        began = time.perf_counter()
        answer: dict[str, Any] = load(up, file, hard.form, target, refused=hard.refused is not None)
        seconds = time.perf_counter() - began
    file.unlink()
    refused = str(answer.get("type", "")).rpartition("/")[2] if hard.refused else ""
    written, quarantined = (0, 0) if hard.refused else (answer["rows_written"], answer["quarantine"]["rows"])
    if refused != (hard.refused or "") or (not hard.refused and not rows == answer["rows_in"] == written + quarantined):
        raise SystemExit(f"{hard.name}: {rows} rows were sent, the answer is {answer}")
    table.add_row(
        hard.name, f"{size:.0f}", f"{seconds:.1f}", f"{size / seconds:.0f}", f"{answer.get('rows_in', '')}",
        f"{written:,}", f"{quarantined:,}", refused, f"{peak[0]:.0f}",
    )  # fmt: skip


def clean(form: data.Format) -> Callable[[Path, int], int]:
    """Good rows only."""
    return lambda path, size_bytes: data.write(path, form, size_bytes)


def bad_stretch(form: data.Format) -> Callable[[Path, int], int]:
    """Nine tenths of the file bad, then good rows."""

    def write(path: Path, size_bytes: int) -> int:
        rest = path.with_suffix(".rest")
        rows = data.write(path, form, size_bytes * 9 // 10, 100) + data.write(rest, form, size_bytes // 10)
        with path.open("ab") as out, rest.open("rb") as more:
            if form == "csv":
                more.readline()  # its header
            while chunk := more.read(CHUNK):
                out.write(chunk)
        rest.unlink()
        return rows

    return write


def one_line(form: data.Format) -> Callable[[Path, int], int]:
    """A header where there is one, and one record that never ends."""

    def write(path: Path, size_bytes: int) -> int:
        with path.open("wb") as out:
            if form == "csv":
                out.write(b"id,customer,amount,ordered_at,express,weight,city,due\n1,")
            else:
                out.write(b'{"id":1,"customer":"')
            for _ in range(size_bytes // CHUNK):
                out.write(b"x" * CHUNK)
        return 1

    return write


FILES = (
    Hard("csv-clean", "csv", clean("csv")),
    Hard("csv-clean-10", "csv", clean("csv"), times=10),
    Hard("ndjson-clean", "ndjson", clean("ndjson")),
    Hard("ndjson-clean-10", "ndjson", clean("ndjson"), times=10),
    Hard("csv-bad-stretch", "csv", bad_stretch("csv")),
    Hard("ndjson-bad-stretch", "ndjson", bad_stretch("ndjson")),
    Hard("csv-one-line", "csv", one_line("csv"), refused="line-too-long"),
    Hard("ndjson-one-line", "ndjson", one_line("ndjson"), refused="line-too-long"),
)


if __name__ == "__main__":
    main()
