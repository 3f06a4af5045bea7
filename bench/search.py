"""Search over 100,000 datasets: through HTTP, inside of the process, and PostgreSQL on the same data.

python -m bench.search [--datasets 100000] [--queries 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from uuid import UUID

import aiohttp
import asyncpg
import orjson
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_catalog.datasets.state import Column, DatasetState, TableState, changed, table_name, table_pair, write
from lakegate_catalog.search.index import SearchIndex
from lakegate_catalog.search.query import Wanted, search
from lakegate_chassis.eventlog import make_event
from lakegate_chassis.eventlog.rows import PUBLISH, publish_arguments
from lakegate_chassis.provision import provision
from lakegate_chassis.tokens import TokenSigner
from lakegate_contracts.identity import Principal
from lakegate_contracts.names import TableName

TENANT = "bench"
T0 = datetime(2026, 3, 1, tzinfo=UTC)
TARGET_MS = 20.0
AREAS = (
    "travel", "sales", "finance", "hr", "logistics", "marketing", "web", "mobile", "iot", "risk", "fraud", "support",
    "billing", "inventory", "pricing", "search", "ads", "energy", "health", "claims", "retail", "media", "maps", "ops",
)  # fmt: skip
LAYERS = ("raw", "staging", "core", "mart", "archive")
SUBJECTS = (
    "flights", "orders", "customers", "payments", "invoices", "shipments", "sessions", "clicks", "devices", "sensors",
    "employees", "contracts", "policies", "accounts", "transactions", "products", "prices", "stock", "returns",
    "campaigns", "impressions", "tickets", "calls", "routes", "airports", "planes", "weather", "meters", "readings",
    "patients", "visits", "prescriptions", "suppliers", "warehouses", "vehicles", "drivers", "trips", "bookings",
)  # fmt: skip
SHAPES = (
    "daily", "hourly", "monthly", "latest", "history", "snapshot", "summary", "by_region", "by_customer", "v2", "eu",
    "us", "apac", "dedup",
)  # fmt: skip
COLUMNS = (
    "id", "customer_id", "order_id", "created_at", "updated_at", "amount", "currency", "country", "region", "carrier",
    "tail_number", "origin", "destination", "dep_delay", "arr_delay", "email", "phone", "status", "quantity", "price",
    "latitude", "longitude", "device_id", "session_id", "user_agent", "ip_address", "score", "label", "start_date",
    "end_date", "valid_from", "valid_to", "source_system", "batch_id", "hash", "version", "temperature", "voltage",
)  # fmt: skip
TAGS = ("gold", "silver", "bronze", "pii", "certified", "deprecated", "finance", "gdpr")


def datasets(count: int) -> Iterator[DatasetState]:
    """Tables as a large company has them: two namespace levels, compound names, 5 to 25 columns."""
    chance = random.Random(7)
    for number in range(count):
        namespace = f"{chance.choice(AREAS)}.{chance.choice(LAYERS)}"
        subject = chance.choice(SUBJECTS)
        name = f"{subject}_{chance.choice(SUBJECTS)}_{chance.choice(SHAPES)}_{number}"
        columns = [
            Column(name=column, type="string", field_id=place + 1)
            for place, column in enumerate(chance.sample(COLUMNS, chance.randint(5, 25)))
        ]
        yield DatasetState(
            id=UUID(int=chance.getrandbits(128)),
            namespace=table_pair(TENANT),
            name=f"{namespace}.{name}",
            kind="table",
            description=f"{subject.capitalize()} of {namespace}, kept by the {chance.choice(AREAS)} team.",
            owner=f"{chance.choice(AREAS)}-team@example.org",
            tags=tuple(chance.sample(TAGS, chance.randint(0, 3))),
            columns=tuple(columns),
            location=f"s3://lake/{TENANT}/{namespace}/{name}",
            created_at=T0 + timedelta(seconds=number),
            updated_at=T0 + timedelta(seconds=number),
            table=TableState(metadata_location="s3://lake/m.json", table_uuid=UUID(int=number), schema_id=0),
        )


def queries(count: int) -> list[tuple[str, str]]:
    """(kind, text) of what people type, mixed."""
    chance = random.Random(3)
    made = []
    for _ in range(count):
        word, other = chance.choice(SUBJECTS), chance.choice(SUBJECTS)
        kind = chance.choice(("word", "beginning", "typing error", "two words", "column", "whole name"))
        place = chance.randrange(1, len(word) - 1)
        text = {
            "word": word,
            "beginning": word[: chance.randint(2, 4)],
            "typing error": word[:place] + word[place + 1 :],
            "two words": f"{word} {other[:4]}",
            "column": chance.choice(COLUMNS),
            "whole name": f"{chance.choice(AREAS)}.{chance.choice(LAYERS)}.{word}_{other}",
        }[kind]
        made.append((kind, text))
    return made


async def fill(connection: asyncpg.Connection, states: list[DatasetState]) -> None:
    """Write the log and the claims as the store does, in bulk, and a table for PostgreSQL's own search."""
    names = [table_name(TENANT, TableName.parse(state.name)) for state in states]
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda v: b"\x01" + orjson.dumps(v),
        decoder=lambda v: orjson.loads(v[1:]),
    )
    await connection.copy_records_to_table(
        "changes",
        schema_name="catalog",
        columns=["tenant", "entity_id", "sequence", "kind", "space", "name_key", "state", "changed_at"],
        records=[
            (TENANT, state.id, 1, "created", "dataset", name.key, write(state), T0)
            for state, name in zip(states, names, strict=True)
        ],
    )
    await connection.copy_records_to_table(
        "claims",
        schema_name="catalog",
        columns=["tenant", "space", "name_key", "parent", "entity_id", "sequence", "claimed_at"],
        records=[
            (TENANT, "dataset", name.key, name.parent, state.id, 1, T0)
            for state, name in zip(states, names, strict=True)
        ],
    )
    await connection.execute("CREATE TABLE plain (id uuid, body jsonb, words text, document tsvector)")
    await connection.copy_records_to_table(
        "plain",
        columns=["id", "body", "words"],
        records=[
            (state.id, write(state), " ".join((state.name, state.description or "", *(c.name for c in state.columns))))
            for state in states
        ],
    )
    await connection.execute("UPDATE plain SET document = to_tsvector('simple', translate(words, '._-', '   '))")
    await connection.execute("CREATE INDEX ON plain USING gin (document)")
    await connection.execute("VACUUM ANALYZE catalog.changes, catalog.claims, plain")


async def publish(connection: asyncpg.Connection, states: list[DatasetState]) -> None:
    """Changes of datasets that exist, through the event log, as commits make them."""
    now = datetime.now(UTC)
    for start in range(0, len(states), 500):
        events = tuple(
            make_event(changed(state, 2, "committed", now), key=str(state.id), tenant=TENANT, source="bench")
            for state in states[start : start + 500]
        )
        await connection.execute(PUBLISH, *publish_arguments(events))


Measure = Callable[..., Awaitable[object]]


async def timed(measure: Measure, asked: list[tuple[str, str]]) -> dict[str, list[float]]:
    """Milliseconds by kind of query, one after the other."""
    found: dict[str, list[float]] = {}
    for kind, text in asked:
        started = perf_counter()
        await measure(text)
        found.setdefault(kind, []).append((perf_counter() - started) * 1000)
    return found


async def at_once(measure: Measure, asked: list[tuple[str, str]], clients: int) -> tuple[float, list[float]]:
    """Searches a second and their milliseconds, with so many clients asking all the time."""
    waiting = list(asked)
    spent: list[float] = []

    async def ask() -> None:
        while waiting:
            _, text = waiting.pop()
            started = perf_counter()
            await measure(text)
            spent.append((perf_counter() - started) * 1000)

    began = perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    return len(asked) / (perf_counter() - began), spent


def p(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def _ready(ask: Measure) -> None:
    for _ in range(1200):
        try:
            if await ask("flights") == 200:
                return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise RuntimeError("the catalog did not get ready within 120 s")


@asynccontextmanager
async def catalog(environment: dict[str, str], log: Path) -> AsyncIterator[tuple[int, Measure]]:
    """`python -m lakegate_catalog`; yields its pid and a client, once search is there."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lakegate_catalog", env=environment, stdout=output, stderr=output
        )
        try:
            url = f"http://127.0.0.1:{environment['CATALOG_PORT']}"
            headers = {"authorization": f"Bearer {environment['TOKEN']}"}
            # aiohttp, as between our services: a client that costs more than the search would measure itself
            async with aiohttp.ClientSession(url, headers=headers) as client:

                async def ask(text: str, **more: str) -> int:
                    async with client.get("/v1/search", params={"q": text, **more}) as answer:
                        await answer.read()
                        return answer.status

                await _ready(ask)
                yield process.pid, ask
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


def memory_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1e6


@dataclass
class Seen:
    """Milliseconds by kind of query for each way; searches a second and their milliseconds with 8 clients."""

    http: dict[str, list[float]]
    rate8: float
    http8: list[float]
    inside: dict[str, list[float]] = field(default_factory=dict)
    text_search: dict[str, list[float]] = field(default_factory=dict)
    ilike: dict[str, list[float]] = field(default_factory=dict)


async def run(folder: Path, count: int, asked: list[tuple[str, str]], console: Console) -> bool:
    """Whether the target is met."""
    postgres = EmbeddedPostgres(folder / "pg")
    admin_url = postgres.start()
    try:
        urls = await provision(admin_url, {"catalog": secrets.token_urlsafe(12)}, database="bench")
        connection = await asyncpg.connect(admin_url.rpartition("/")[0] + "/bench")
        environment = catalog_environment(folder, urls["catalog"])
        async with catalog(environment, folder / "catalog.log") as (pid, _):
            console.print(f"catalog idle, nothing in it: {memory_mb(pid):.0f} MB")
        states = list(datasets(count))
        await fill(connection, states)
        (folder / "search").rename(folder / "empty")
        seen = await through_http(environment, folder / "catalog.log", connection, states, asked, console)
        seen.inside = await in_the_process(folder / "search", asked)
        few = asked[: max(60, len(asked) // 20)]
        seen.text_search, seen.ilike = await by_postgresql(connection, few)
        await connection.close()
    finally:
        postgres.stop()
    return show(console, count, seen)


def catalog_environment(folder: Path, postgres_url: str) -> dict[str, str]:
    """Settings of the service, and a token for those who ask it."""
    signer = TokenSigner(Ed25519PrivateKey.generate())
    (folder / "jwks.json").write_bytes(orjson.dumps({"keys": [signer.jwk]}))
    principal = Principal(tenant=TENANT, subject="bench", scopes=("admin",))
    return {
        **os.environ,
        "CATALOG_POSTGRES__URL": postgres_url,
        "CATALOG_TOKEN__JWKS": str(folder / "jwks.json"),
        "CATALOG_PORT": str(_free_port()),
        "CATALOG_MANAGEMENT_PORT": str(_free_port()),
        "CATALOG_DRAIN_SECONDS": "0",
        "CATALOG_WAREHOUSE__LOCATION": (folder / "warehouse").as_uri(),
        "CATALOG_SEARCH__DIR": str(folder / "search"),
        "MALLOC_ARENA_MAX": "2",
        "TOKEN": signer.mint(principal, "catalog", lifetime_seconds=3600),
    }


async def through_http(
    environment: dict[str, str],
    log: Path,
    connection: asyncpg.Connection,
    states: list[DatasetState],
    asked: list[tuple[str, str]],
    console: Console,
) -> Seen:
    """A catalog that builds its index, takes changes, and is asked."""
    started = perf_counter()
    async with catalog(environment, log) as (pid, ask):
        console.print(
            f"index of {len(states):,} datasets built from the store in {perf_counter() - started:.1f} s; "
            f"catalog {memory_mb(pid):.0f} MB"
        )
        some = states[: min(10_000, len(states))]
        started = perf_counter()
        await publish(connection, some)
        head = await connection.fetchval("SELECT count(*) FROM eventlog.events")
        while await ask("", consistency_token=str(head)) != 200:
            pass
        rate = len(some) / (perf_counter() - started)
        console.print(f"{len(some):,} changes from publish to found: {rate:,.0f} changes/s")

        async def by_http(text: str) -> None:
            assert await ask(text) == 200

        await timed(by_http, asked[:100])
        http = await timed(by_http, asked)
        seen = Seen(http, *await at_once(by_http, asked, 8))
        console.print(f"catalog after that: {memory_mb(pid):.0f} MB")
        return seen


async def in_the_process(folder: Path, asked: list[tuple[str, str]]) -> dict[str, list[float]]:
    index = SearchIndex(folder, 15_000_000)

    async def inside(text: str) -> None:
        search(index, Wanted(TENANT, text))

    try:
        return await timed(inside, asked)
    finally:
        index.close()


async def by_postgresql(
    connection: asyncpg.Connection, asked: list[tuple[str, str]]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Its full-text search, and ILIKE."""

    async def by_text_search(text: str) -> None:
        terms = " & ".join(f"{word}:*" for word in text.replace(".", " ").replace("_", " ").split())
        await connection.fetch(
            "SELECT id, body, count(*) OVER () FROM plain, to_tsquery('simple', $1) q WHERE document @@ q "
            "ORDER BY ts_rank(document, q) DESC LIMIT 20",
            terms,
        )

    async def by_ilike(text: str) -> None:
        await connection.fetch(
            "SELECT id, body, count(*) OVER () FROM plain WHERE words ILIKE ALL($1) LIMIT 20",
            [f"%{word}%" for word in text.split()],
        )

    return await timed(by_text_search, asked), await timed(by_ilike, asked)


def show(console: Console, count: int, seen: Seen) -> bool:
    columns = {
        "HTTP": seen.http,
        "inside": seen.inside,
        "PostgreSQL FTS": seen.text_search,
        "PostgreSQL ILIKE": seen.ilike,
    }
    table = Table(title=f"Search over {count:,} datasets, ms p50 / p99")
    table.add_column("query")
    for column in columns:
        table.add_column(column, justify="right")
    for kind in sorted(seen.http):
        table.add_row(kind, *(_cell(each.get(kind, [])) for each in columns.values()))
    every = {name: [value for values in each.values() for value in values] for name, each in columns.items()}
    table.add_row("all", *(_cell(values) for values in every.values()), style="bold")
    console.print(table)
    worst = p(every["HTTP"], 0.99)
    console.print(
        f"8 clients at once: {seen.rate8:,.0f} searches/s, p50 {median(seen.http8):.1f} ms, "
        f"p99 {p(seen.http8, 0.99):.1f} ms "
        "(client and server share the cores)"
    )
    met = worst < TARGET_MS
    console.print(f"p99 through HTTP {worst:.1f} ms, target {TARGET_MS:.0f} ms: {'met' if met else 'MISSED'}")
    return met


def _cell(values: list[float]) -> str:
    return f"{median(values):.1f} / {p(values, 0.99):.1f}" if values else "–"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=2000)
    asked = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="lakegate-bench-") as folder:
        met = asyncio.run(run(Path(folder), asked.datasets, queries(asked.queries), console))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
