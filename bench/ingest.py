"""The engine beside DuckDB's own COPY, without HTTP or catalog: `python -m bench.ingest`.

Each measurement runs in a process of its own, so that peak anonymous memory is that of one load. `COPY` is what one
would type: `COPY (FROM 'file') TO 'file.parquet' (COMPRESSION zstd)`, with DuckDB's defaults. `count` is the
independent count of records, which the service makes while it receives. Bad rows go to a table that exists. The ratio
is COPY's time by the engine's (1 is as fast); COPY can't read files with bad rows into typed columns, so there it is
timed on the clean file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.schema import Schema
from pyiceberg.types import BooleanType, DateType, DoubleType, LongType, NestedField, StringType, TimestampType
from rich.console import Console
from rich.table import Table

from bench import data
from lakegate_ingest.engine import EngineLimits, Format, ReadOptions, RecordCounter, Source, write

TABLE = {
    "id": LongType(),
    "customer": StringType(),
    "amount": DoubleType(),
    "ordered_at": TimestampType(),
    "express": BooleanType(),
    "weight": DoubleType(),
    "city": StringType(),
    "due": DateType(),
}
SAMPLE_SECONDS = 0.02
READ_BYTES = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, nargs="+", default=[1000], help="sizes of the files in MB (10^6 bytes)")
    parser.add_argument("--formats", nargs="+", default=["csv", "ndjson"], choices=["csv", "ndjson"])
    parser.add_argument("--bad", nargs="+", type=float, default=[0, 1, 50, 100], help="percent of bad rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a measurement, in its own process
    asked = parser.parse_args()
    if asked.one:
        what, form, path = json.loads(asked.one)
        print(json.dumps(ONE[what](form, Path(path))))
        return
    table = Table("file", "MB", "bad rows", "COPY s", "engine s", "CPU s", "MB/s", "ratio", "count MB/s", "memory MB")
    for column in table.columns[1:]:
        column.justify = "right"
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder:
        for form in asked.formats:
            for megabytes in asked.mb:
                measure(table, Path(folder), form, megabytes, asked.bad, asked.rounds)
    Console(width=120).print(table)


def measure(table: Table, folder: Path, form: data.Format, megabytes: int, shares: list[float], rounds: int) -> None:
    copies: list[float] = []
    for share in sorted(shares):
        file = folder / f"orders.{form}"
        rows = data.write(file, form, megabytes * 1_000_000, share)
        size = file.stat().st_size / 1e6
        found = []
        for _ in range(rounds):
            if share == 0 or not copies:
                copies.append(run("copy", form, file)["seconds"] if share == 0 else float("nan"))
            found.append(run("engine", form, file))
            if found[-1]["rows"] != rows:
                raise SystemExit(f"rows are missing: {rows} were written, the engine accounts for {found[-1]['rows']}")
        copy = statistics.median(copies)
        seconds = statistics.median(item["seconds"] for item in found)
        table.add_row(
            form,
            f"{size:.0f}",
            f"{share:g} %",
            f"{copy:.1f}",
            f"{seconds:.1f}",
            f"{statistics.median(item['cpu'] for item in found):.1f}",
            f"{size / seconds:.0f}",
            f"{copy / seconds:.2f}",
            f"{size / run('count', form, file)['seconds']:.0f}",
            f"{max(item['memory'] for item in found):.0f}",
        )
        file.unlink()


def run(what: str, form: str, file: Path) -> dict[str, Any]:
    """One measurement in a fresh process."""
    asked = json.dumps([what, form, str(file)])
    done = subprocess.run([sys.executable, "-m", "bench.ingest", "--one", asked], check=True, stdout=subprocess.PIPE)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def copy(form: str, file: Path) -> dict[str, Any]:
    target = file.with_suffix(".parquet")

    def work() -> int:
        with duckdb.connect() as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.execute(f"COPY (FROM '{file}') TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        return 0

    measured = timed(work)
    target.unlink()
    return measured


def engine(form: str, file: Path) -> dict[str, Any]:
    schema = Schema(*(NestedField(i, name, kind, required=False) for i, (name, kind) in enumerate(TABLE.items(), 1)))
    options = ReadOptions(Format(form))
    source = Source(file, file.name, options, records=count_records(options, file))
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        folder = Path(name)

        def work() -> int:
            return write(
                [source],
                schema,
                out_dir=folder / "out",
                quarantine_dir=folder / "quarantine",
                work_dir=folder / "work",
                limits=EngineLimits(),
            ).rows_in

        return timed(work)


def count(form: str, file: Path) -> dict[str, Any]:
    return timed(lambda: count_records(ReadOptions(Format(form)), file))


def count_records(options: ReadOptions, file: Path) -> int:
    counter = RecordCounter(options)
    with file.open("rb", buffering=0) as opened:
        while chunk := opened.read(READ_BYTES):
            counter.feed(chunk)
    return counter.finish()


ONE: dict[str, Callable[[str, Path], dict[str, Any]]] = {"copy": copy, "engine": engine, "count": count}


def timed(work: Callable[[], int]) -> dict[str, Any]:
    peak = [0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], anonymous_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        rows = work()
    finally:
        over.set()
        watcher.join()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "rows": rows, "memory": max(peak[0], anonymous_megabytes())}


def anonymous_megabytes() -> float:
    for line in Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


if __name__ == "__main__":
    main()
