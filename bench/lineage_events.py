"""Events a second by HTTP, one by one and in batches, beside a plain INSERT of the same JSON in the same run.

python -m bench.lineage_events [--events 6000] [--clients 32] [--batch 100]
"""

from __future__ import annotations

import argparse
import asyncio
import random
from time import perf_counter
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from bench.lineage_service import TENANT, Service, admin, lineage_service

PRODUCER = "https://github.com/apache/airflow/tree/providers-openlineage/2.0.0"


def facet(**members: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": "https://openlineage.io/spec/facets/1-0-1/Facet.json"} | members


def schema(columns: int, salt: int) -> dict[str, Any]:
    return facet(fields=[{"name": f"column_{salt}_{number}", "type": "VARCHAR"} for number in range(columns)])


def make_events(count: int) -> list[bytes]:
    """START and COMPLETE of count/2 runs of 500 jobs over 1,000 datasets, about 2.8 KB each."""
    chance = random.Random(7)
    bodies = []
    for number in range(count):
        run, job = UUID(int=number // 2 + 1), (number // 2) % 500
        inputs, output = [(job * 3 + step) % 1000 for step in (1, 2)], job * 2
        event = {
            "eventType": "START" if number % 2 == 0 else "COMPLETE",
            "eventTime": f"2026-03-{1 + number // 86_400:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}:"
            f"{number % 60:02}.{chance.randrange(1000):03}Z",
            "producer": PRODUCER,
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {
                "runId": str(run),
                "facets": {
                    "processing_engine": {
                        "_producer": PRODUCER,
                        "_schemaURL": "x",
                        "version": "2.10",
                        "name": "Airflow",
                    },
                    "nominalTime": {
                        "_producer": PRODUCER,
                        "_schemaURL": "x",
                        "nominalStartTime": "2026-03-01T00:00:00Z",
                    },
                },
            },
            "job": {
                "namespace": "airflow-prod",
                "name": f"dag_{job // 10}.task_{job}",
                "facets": {"jobType": facet(processingType="BATCH")},
            },
            "inputs": [
                {"namespace": "postgres://db:5432", "name": f"shop.t{each}", "facets": {"schema": schema(10, each)}}
                for each in inputs
            ],
            "outputs": [
                {
                    "namespace": "postgres://db:5432",
                    "name": f"shop.t{output}",
                    "facets": {"schema": schema(12, output)},
                    "outputFacets": {"outputStatistics": facet(rowCount=number)},
                }
            ],
        }
        bodies.append(orjson.dumps(event))
    return bodies


def request(service: Service, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: lineage\r\nAuthorization: Bearer {service.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def post_all(service: Service, requests: list[bytes], clients: int) -> tuple[float, list[float]]:
    """Seconds for all, and the latency of each. A bare client: a library's would cost more than the service."""
    waiting = iter(requests)
    latencies: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for content in waiting:
            began = perf_counter()
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            latencies.append(perf_counter() - began)
            if not head.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"{head!r} {body!r}")
        writer.close()

    began = perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return perf_counter() - began, latencies


async def insert_plain(service: Service, bodies: list[bytes], clients: int, batch: int) -> float:
    """The same JSON into a table with nothing but it, one statement and commit each (or for each batch)."""
    connection = await admin(service)
    await connection.execute("DROP TABLE IF EXISTS plain; CREATE TABLE plain (id bigserial PRIMARY KEY, body json)")
    await connection.close()
    texts = [body.decode() for body in bodies]
    waiting = iter([texts[start : start + batch] for start in range(0, len(texts), batch)])

    async def client(connection: asyncpg.Connection) -> None:
        for some in waiting:
            if batch == 1:
                await connection.execute("INSERT INTO plain (body) VALUES ($1::json)", some[0])
            else:
                await connection.execute("INSERT INTO plain (body) SELECT unnest($1::text[])::json", some)

    connections = [await admin(service) for _ in range(clients)]
    began = perf_counter()
    await asyncio.gather(*(client(connection) for connection in connections))
    seconds = perf_counter() - began
    for connection in connections:
        await connection.close()
    return seconds


async def forget(service: Service) -> None:
    connection = await admin(service)
    await connection.execute(
        "TRUNCATE lineage.events, lineage.jobs, lineage.datasets, lineage.facets, lineage.runs, lineage.edges, "
        "lineage.dataset_versions, lineage.symlinks, lineage.column_edges"
    )
    await connection.close()


def quantile(values: list[float], share: float) -> str:
    return f"{sorted(values)[int(len(values) * share)] * 1000:.1f}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=6000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--batch", type=int, default=100)
    options = parser.parse_args()
    bodies = make_events(options.events)
    table = Table("what", "events/s", "of plain INSERT", "p50 ms", "p99 ms", "service CPU µs/event")
    async with lineage_service() as service:
        process = psutil.Process(service.pid)
        for batch in (1, options.batch):
            clients = options.clients if batch == 1 else 4
            if batch == 1:
                requests = [request(service, "/api/v1/lineage", body) for body in bodies]
            else:
                batches = [bodies[start : start + batch] for start in range(0, len(bodies), batch)]
                requests = [
                    request(service, "/api/v1/lineage/batch", b"[" + b",".join(some) + b"]") for some in batches
                ]
            await post_all(service, requests[: len(requests) // 5], clients)
            await forget(service)
            plain = await insert_plain(service, bodies, clients, batch)
            cpu = sum(process.cpu_times()[:2])
            seconds, latencies = await post_all(service, requests, clients)
            cpu = sum(process.cpu_times()[:2]) - cpu
            name = f"{clients} clients, " + ("one event each" if batch == 1 else f"batches of {batch}")
            table.add_row(f"plain INSERT, {name}", f"{len(bodies) / plain:,.0f}", "1.00", "", "", "")
            table.add_row(
                f"POST, {name}", f"{len(bodies) / seconds:,.0f}", f"{plain / seconds:.2f}",
                quantile(latencies, 0.5), quantile(latencies, 0.99), f"{cpu / len(bodies) * 1e6:.0f}",
            )  # fmt: skip
        connection = await admin(service)
        stored = await connection.fetchval("SELECT count(*) FROM lineage.events WHERE tenant = $1", TENANT)
        await connection.close()
    if stored != len(set(bodies)):
        raise RuntimeError(f"{stored} events are stored, {len(set(bodies))} were sent")
    mean = sum(map(len, bodies)) / len(bodies)
    Console().print(f"{len(bodies):,} events of {mean / 1000:.1f} KB, each a row in 8 tables; all {stored:,} stored")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
