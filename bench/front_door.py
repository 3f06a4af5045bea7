"""A file through the front door, beside what one would do without it: `python -m bench.front_door`.

Each round times, on the same file and one after the other:

- the reference: PUT through nginx to disk, then `duckdb COPY` of it to Parquet;
- Lakegate: POST through the gateway until the receipt, that is, until the Iceberg snapshot is committed.

Printed are medians. `ratio` is reference time by Lakegate's time (1 is as fast), `to COPY` the same for COPY alone.
Bad rows go to a table that exists, so that their values are quarantined and not inferred. Memory is the peak of the
ingest process's anonymous memory. nginx comes from the system (Debian: apt-get install nginx-light).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench import data, nginx, suite

MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
READERS = {"csv": "read_csv", "ndjson": "read_json"}
SAMPLE_SECONDS = 0.05
LOAD_TIMEOUT_SECONDS = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1000, help="size of each file in MB (10^6 bytes)")
    parser.add_argument("--formats", nargs="+", default=["csv", "ndjson"], choices=sorted(READERS))
    parser.add_argument("--bad", nargs="+", type=float, default=[0, 1, 50, 100], help="percent of bad rows")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    table = Table("file", "bad rows", "nginx PUT s", "COPY s", "Lakegate s", "MB/s", "ratio", "to COPY", "memory MB")
    for column in table.columns[1:]:
        column.justify = "right"
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder, suite.temporary() as up:
        Path(folder).chmod(0o755)
        for form in asked.formats:
            for bad in asked.bad:
                measure(table, Path(folder), up, form, bad, asked.mb, asked.rounds)
    Console(width=120).print(table)


def measure(table: Table, folder: Path, up: suite.Suite, form: data.Format, bad: float, mb: int, rounds: int) -> None:
    """One row of the table."""
    file = folder / f"orders.{form}"
    rows = data.write(file, form, mb * 1_000_000, bad)
    target = f"bench.{form}_{bad:g}".replace("%", "")
    small = folder / f"small.{form}"
    data.write(small, form, 100_000)
    load(up, small, form, target)
    size = file.stat().st_size / 1e6
    puts, copies, loads, peaks = [], [], [], []
    for _ in range(rounds):
        put, copy = reference(folder, file, form)
        puts.append(put)
        copies.append(copy)
        with peak_memory(up.pid("ingest")) as peak:
            began = time.perf_counter()
            receipt = load(up, file, form, target)
            loads.append(time.perf_counter() - began)
        peaks.append(peak[0])
        if receipt["rows_in"] != rows or receipt["rows_written"] + receipt["quarantine"]["rows"] != rows:
            raise SystemExit(f"rows are missing: {rows} were sent, the receipt is {receipt}")
    both = [put + copy for put, copy in zip(puts, copies, strict=True)]
    ratio = statistics.median(reference / ours for reference, ours in zip(both, loads, strict=True))
    alone = statistics.median(copy / ours for copy, ours in zip(copies, loads, strict=True))
    ours = statistics.median(loads)
    table.add_row(
        f"{form} {size:.0f} MB", f"{bad:g} %", f"{statistics.median(puts):.1f}", f"{statistics.median(copies):.1f}",
        f"{ours:.1f}", f"{size / ours:.0f}", f"{ratio:.2f}", f"{alone:.2f}", f"{max(peaks):.0f}",
    )  # fmt: skip
    file.unlink()


def reference(folder: Path, file: Path, form: data.Format) -> tuple[float, float]:
    """Seconds of the PUT and of the COPY; both results are removed."""
    stored = folder / "stored"
    with nginx.storing(folder / "nginx", stored) as url:
        began = time.perf_counter()
        subprocess.run(["curl", "-sSf", "-T", file, f"{url}/{file.name}"], check=True)
        put = time.perf_counter() - began
    began = time.perf_counter()
    engine = duckdb.connect(config={"threads": 2})
    source = f"{READERS[form]}('{stored / file.name}')"
    engine.execute(f"COPY (SELECT * FROM {source}) TO '{folder / 'copy.parquet'}' (FORMAT parquet)")
    copy = time.perf_counter() - began
    (stored / file.name).unlink()
    (folder / "copy.parquet").unlink()
    return put, copy


def load(up: suite.Suite, file: Path, form: data.Format, target: str, *, refused: bool = False) -> dict[str, object]:
    """POST with curl, as nginx gets it; wait for the receipt where 30 s were not enough, or for the problem."""
    namespace, _, name = target.rpartition(".")
    command = ["curl", "-sS", "-X", "POST", "-T", file, "-H", f"authorization: Bearer {up.key}", "-H", "expect:",
               "-H", f"content-type: {MEDIA_TYPES[form]}", f"{up.url}/v1/loads/{namespace}/{name}"]  # fmt: skip
    answer = httpx.Response(200, content=subprocess.run(command, capture_output=True, check=True).stdout).json()
    with httpx.Client(base_url=up.url, headers={"authorization": f"Bearer {up.key}"}, timeout=60) as client:
        began = time.monotonic()
        while "rows_in" not in answer:
            state = answer.get("state", answer.get("title"))
            if refused and state == answer.get("title"):
                return dict(answer)
            if state in ("failed", answer.get("title")) or time.monotonic() - began > LOAD_TIMEOUT_SECONDS:
                raise SystemExit(f"the load did not complete: {answer}")
            time.sleep(0.1)
            found = client.get(f"/v1/loads/{answer.get('load_id') or answer['id']}").json()
            answer = found.get("receipt") or found
    document: dict[str, object] = answer
    return document


@contextmanager
def peak_memory(pid: int) -> Iterator[list[float]]:
    """The highest anonymous memory of a process in MB, sampled; the list holds it at the end."""
    peak, done = [0.0], threading.Event()
    rollup = Path(f"/proc/{psutil.Process(pid).pid}/smaps_rollup")

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            line = next(line for line in rollup.read_text().splitlines() if line.startswith("Anonymous"))
            peak[0] = max(peak[0], int(line.split()[1]) / 1000)

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()
