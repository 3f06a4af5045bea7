"""How fast the suite starts and what it costs idle: `python -m bench.idle`.

Memory of each process is read from /proc: RSS counts pages that processes share several times, PSS shares them out,
anonymous is what would be left without page cache. The last table says which library costs what, each measured as
the growth of a fresh Python process when it is imported after those above it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench import suite

SETTLE_SECONDS = 10
STARTS = 3
LIBRARIES = {
    "every service": ["asyncio", "fastapi", "uvicorn", "asyncpg", "structlog", "opentelemetry.sdk.trace",
                      "prometheus_client", "cryptography.hazmat.primitives.asymmetric.ed25519", "httpx_aiohttp"],
    "catalog": ["pyiceberg.catalog.rest", "obstore", "tantivy"],
    "ingest": ["pyarrow", "pyarrow.parquet", "duckdb", "pyiceberg.table", "obstore"],
    "lineage": ["msgspec"],
}  # fmt: skip
GROWTH = """
import importlib, pathlib, sys
def anonymous():
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Rss:",)))
before = anonymous()
for name in sys.argv[1:]:
    importlib.import_module(name)
    now = anonymous()
    print(name, now - before)
    before = now
"""


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        starts = []
        for _ in range(STARTS):
            with suite.running(home) as up:
                starts.append(up.ready_seconds)
        with suite.running(home) as up:
            time.sleep(SETTLE_SECONDS)
            print_processes(console, up)
    console.print(f"ready after {starts[0]:.1f} s on an empty folder, {statistics.median(starts[1:]):.1f} s warm")
    print_libraries(console)


def print_processes(console: Console, up: suite.Suite) -> None:
    """One row for each process, PostgreSQL's backends added up."""
    state = up.state()
    table = Table("process", "RSS MB", "PSS MB", "anonymous MB", title=f"Idle for {SETTLE_SECONDS} s")
    for column in table.columns[1:]:
        column.justify = "right"
    totals = [0.0, 0.0, 0.0]
    pids = {"supervisor": state["pid"]} | {name: found["pid"] for name, found in state["processes"].items()}
    postmaster = next(up.home.rglob("postmaster.pid"))
    pids["postgres"] = int(postmaster.read_text().splitlines()[0])
    for name, pid in pids.items():
        family = [psutil.Process(pid)]
        if name == "postgres":
            family += family[0].children(recursive=True)
        figures = [sum(values) for values in zip(*(memory(process.pid) for process in family), strict=True)]
        totals = [total + figure for total, figure in zip(totals, figures, strict=True)]
        label = f"{name} ({len(family)} processes)" if len(family) > 1 else name
        table.add_row(label, *(f"{figure:.0f}" for figure in figures))
    table.add_section()
    table.add_row("all", *(f"{total:.0f}" for total in totals))
    console.print(table)


def memory(pid: int) -> tuple[float, float, float]:
    """RSS, PSS and anonymous memory of one process, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}
    return fields["Rss"], fields["Pss"], fields["Anonymous"]


def print_libraries(console: Console) -> None:
    """What importing each library adds to a process."""
    table = Table("process", "import", "RSS MB", title="What costs what")
    table.columns[2].justify = "right"
    for process, names in LIBRARIES.items():
        first = names if process == "every service" else [*LIBRARIES["every service"], *names]
        done = subprocess.run([sys.executable, "-c", GROWTH, *first], capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines()[-len(names) :]:
            name, growth = line.split()
            table.add_row(process, name, f"{int(growth) / 1000:.1f}")
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
