"""Every dashboard's queries, asked of a Prometheus that watches an installation: `python -m bench.panels --url URL`.

`make dashboards-check` does so beside a suite of processes, which has no rollouts and no event streams. This asks the
Prometheus of a cluster, over the time span that a person would look at, and says which panels were empty.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import httpx

DASHBOARDS = Path(__file__).parents[1] / "charts" / "lakegate-base" / "files" / "dashboards"
STEP_SECONDS = 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="of Prometheus")
    parser.add_argument("--namespace", default="lakegate", help="where the suite is")
    parser.add_argument("--minutes", type=float, default=30, help="how far back a panel looks")
    options = parser.parse_args()
    empty = 0
    with httpx.Client(base_url=options.url, timeout=60) as prometheus:
        for path in sorted(DASHBOARDS.glob("*.json")):
            queries = [
                (panel["title"], target["expr"])
                for panel in json.loads(path.read_text())["panels"]
                for target in panel.get("targets", [])
            ]
            without = [
                f"  no data: {title}: {query}"
                for title, query in queries
                if not _has_data(prometheus, query.replace("$namespace", options.namespace), options.minutes * 60)
            ]
            empty += len(without)
            print(
                f"{path.stem:<10} {len(queries) - len(without)} of {len(queries)} queries have data", *without, sep="\n"
            )
    return 1 if empty else 0


def _has_data(prometheus: httpx.Client, query: str, seconds: float) -> bool:
    now = time.time()
    answer: dict[str, Any] = prometheus.post(
        "/api/v1/query_range",
        data={
            "query": query.replace("$__rate_interval", "1m").replace("$__range", f"{seconds:.0f}s"),
            "start": now - seconds,
            "end": now,
            "step": STEP_SECONDS,
        },
    ).json()
    if answer["status"] != "success":
        raise SystemExit(f"{query}: {answer}")
    return any(not math.isnan(float(value)) for series in answer["data"]["result"] for _, value in series["values"])


if __name__ == "__main__":
    sys.exit(main())
