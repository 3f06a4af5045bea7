"""Latency of GET /v1/lineage/graph on a synthetic graph.

python -m bench.lineage_graph [--jobs 25000] [--requests 100] [--explain]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
from datetime import UTC, datetime
from time import perf_counter
from uuid import UUID, uuid5

import httpx
from rich.console import Console
from rich.table import Table

from bench.lineage_service import TENANT, Service, admin, lineage_service
from lakegate_lineage import identity

T0 = datetime(2026, 3, 1, tzinfo=UTC)
INPUTS = 3
REACH = 2000  # a job reads datasets at most so many before its own: neither a line nor a ball


async def fill(service: Service, jobs: int) -> int:
    """Job i reads three datasets that earlier jobs wrote, and writes dataset i. Returns the number of edges."""
    chance = random.Random(11)
    job_ids = [identity.job_id("etl", f"job{number}") for number in range(jobs)]
    dataset_ids = [identity.dataset_id("db", f"t{number}") for number in range(jobs)]
    run_ids: list[UUID] = [uuid5(job_id, "run") for job_id in job_ids]
    edges = {(job_ids[number], True, dataset_ids[number]) for number in range(jobs)}
    for number in range(1, jobs):
        for _ in range(INPUTS):
            source = chance.randrange(max(0, number - REACH), number)
            edges.add((job_ids[number], False, dataset_ids[source]))
    connection = await admin(service)
    common = ["tenant", "id", "namespace", "name", "first_event_at", "last_event_at"]
    run_columns = ["tenant", "id", "run_id", "state", "state_order", "state_at", "job_id"]
    every = range(jobs)
    for name, columns, rows in (
        ("edges", ["tenant", "job_id", "writes", "dataset_id", "first_event_at", "last_event_at"],
         [(TENANT, *edge, T0, T0) for edge in edges]),
        ("jobs", [*common, "latest_run_id", "latest_run_at"],
         [(TENANT, job_ids[n], "etl", f"job{n}", T0, T0, run_ids[n], T0) for n in every]),
        ("datasets", [*common, "written_by", "written_at"],
         [(TENANT, dataset_ids[n], "db", f"t{n}", T0, T0, run_ids[n], T0) for n in every]),
        ("runs", [*run_columns, "first_event_at", "last_event_at"],
         [(TENANT, run_ids[n], run_ids[n], "completed", 20, T0, job_ids[n], T0, T0) for n in every]),
        # one alternative name, so that every level has to look for more
        ("symlinks", ["tenant", "dataset_id", "alias_id", "namespace", "name"],
         [(TENANT, dataset_ids[0], identity.dataset_id("file", "/t0"), "file", "/t0")]),
    ):  # fmt: skip
        await connection.copy_records_to_table(name, schema_name="lineage", columns=columns, records=rows)
    await connection.execute("VACUUM ANALYZE lineage.edges, lineage.jobs, lineage.datasets, lineage.runs")
    await connection.close()
    return len(edges)


async def explain(service: Service, jobs: int) -> None:
    """The plans of one level and of the nodes, as the application role sees them."""
    from lakegate_lineage.datasets import queries as dataset_queries
    from lakegate_lineage.graph import queries

    connection = await admin(service)
    await connection.execute("SET ROLE lakegate_lineage; SET search_path = lineage")
    await connection.execute("SELECT set_config('lakegate.tenant', $1, false)", TENANT)
    datasets = [identity.dataset_id("db", f"t{number}") for number in range(jobs // 2, jobs // 2 + 500)]
    some_jobs = [identity.job_id("etl", f"job{number}") for number in range(jobs // 2, jobs // 2 + 500)]
    for title, statement, values in (
        ("jobs of 500 datasets", queries.JOBS_OF_DATASETS, [datasets, False, 40_001]),
        ("datasets of 500 jobs", queries.DATASETS_OF_JOBS, [some_jobs, False, 40_001]),
        ("500 jobs with their last run", queries.JOBS, [some_jobs]),
        ("symlinks of 500 datasets", dataset_queries.SYMLINKS, [datasets]),
    ):
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", *values)
        plan = "\n".join(re.sub(r"\{[^}]*\}", "{…}", row[0]) for row in rows)
        Console(width=160).print(f"\n{title}\n{plan}", markup=False, highlight=False)
    await connection.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=25_000)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--explain", action="store_true")
    options = parser.parse_args()
    chance = random.Random(3)
    table = Table("direction", "depth", "budget", "p50 ms", "p99 ms", "nodes (median)", "truncated")
    async with lineage_service() as service:
        edges = await fill(service, options.jobs)
        headers = {"Authorization": f"Bearer {service.token}"}
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60) as client:
            for direction, depth, limit in (
                ("up", 5, 1000), ("both", 5, 1000), ("up", 20, 1000), ("up", 20, 5000), ("both", 20, 5000),
            ):  # fmt: skip
                latencies, sizes, cut = [], [], 0
                for _ in range(options.requests):
                    name = f"t{chance.randrange(options.jobs // 4, options.jobs * 3 // 4)}"
                    params: dict[str, str | int] = {
                        "namespace": "db",
                        "name": name,
                        "direction": direction,
                        "depth": depth,
                        "limit": limit,
                    }
                    began = perf_counter()
                    answer = await client.get("/v1/lineage/graph", params=params)
                    latencies.append((perf_counter() - began) * 1000)
                    graph = answer.raise_for_status().json()
                    sizes.append(len(graph["nodes"]))
                    cut += graph["truncated"]
                latencies.sort()
                table.add_row(
                    direction, str(depth), f"{limit:,}", f"{latencies[len(latencies) // 2]:.1f}",
                    f"{latencies[int(len(latencies) * 0.99)]:.1f}", f"{sorted(sizes)[len(sizes) // 2]:,}",
                    f"{cut / options.requests:.0%}",
                )  # fmt: skip
        if options.explain:
            await explain(service, options.jobs)
    Console().print(f"{options.jobs:,} jobs, {edges:,} edges, one client over HTTP")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
