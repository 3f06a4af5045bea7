"""A load that is bad throughout, written back to a file: `python -m bench.rejects`.

Two faults in each row, so twice as many records as rows. `memory` is the peak of the ingest process's anonymous memory
in MB, and in brackets what it was before. `page` is the last page of 1,000 records, as JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import suite
from bench.front_door import peak_memory
from lakegate.client import Client
from lakegate.rejected import write_rejected

TABLE = "bench.bad"
HEADER = "id,amount,day,note\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    table = Table("rows", "seconds", "memory MB", "page ms")
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder, suite.temporary() as up:
        sent = Path(folder) / "bad.csv"
        with Client(up.url, up.key) as lake:
            lake.push(f"{HEADER}1,2,2024-01-01,good\n".encode(), TABLE, name="good.csv")
            rows = (
                f"x{n},none{n},2024-01-{n % 28 + 1:02d},a note of some length for row {n}\n" for n in range(asked.rows)
            )
            sent.write_text(HEADER + "".join(rows))
            load = lake.push(sent, TABLE).load_id
            for number in range(asked.rounds):
                mended = Path(folder) / f"{number}.csv"
                with peak_memory(up.pid("ingest")) as peak:
                    time.sleep(1)  # what it holds beforehand is seen, too
                    before = peak[0]
                    began = time.perf_counter()
                    write_rejected(lake, str(load), mended)
                    seconds = time.perf_counter() - began
                if mended.read_bytes() != sent.read_bytes():
                    raise SystemExit(f"{mended.name} is not what was sent")
                last = f"0.{2 * asked.rows - 1000}"
                began = time.perf_counter()
                lake.rejects(load, limit=1000, cursor=last)
                page = time.perf_counter() - began
                table.add_row(
                    f"{asked.rows:,}", f"{seconds:.1f}", f"{peak[0]:.0f} ({before:.0f})", f"{1000 * page:.0f}"
                )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
