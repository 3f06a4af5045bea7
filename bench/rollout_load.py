"""The clients of bench.rollout: what each asks for, what it was told, and what has to be there afterwards.

Each request is sent once. An answer that was not hoped for, a connection that breaks or an answer that is no whole one
is a failed request. What was acknowledged is counted, and looked for when the rollouts are over.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from pyiceberg.table import Table

NAMESPACE = "bench"
ROWS = 3
# A table's metadata grow with every commit: after so many, another table is begun.
TABLE_COMMITS = 200
# What readers ask for in turn: relayed to catalog, lineage, ingest, and the catalog's Iceberg side.
READS = ("/v1/datasets?limit=1", "/v1/runs?limit=1", "/v1/loads?limit=1", "/iceberg/v1/config?warehouse=lakehouse")
# for what is acknowledged before it is there
CATCH_UP_SECONDS = 30.0
# An upload is longer than a colour that goes takes new requests, and shorter than it waits for those it has.
UPLOAD_SECONDS = 10.0


@dataclass
class Load:
    """Clients of one gateway. `stamp` makes this run's rows, jobs and tables its own."""

    url: str
    paths: tuple[str, ...]
    headers: dict[str, str]
    stamp: str = field(default_factory=lambda: f"r{int(time.time()):x}")
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    # what was acknowledged: by table, the loads and appends whose rows have to be in it; runs by their ids
    written: dict[str, set[str]] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def uploads(self) -> str:
        return f"{self.stamp}_uploads"

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=60, trust_env=False)

    async def prepare(self) -> None:
        """Make the namespace, which PyIceberg expects to be there."""
        async with self.client() as client:
            path = f"/v1/loads/{NAMESPACE}/{self.stamp}_first"
            answer = await client.post(path, params={"name": "first.csv"}, content="name,row\nfirst,0\n")
            answer.raise_for_status()

    async def read(self, pause_seconds: float) -> None:
        """Reads that the gateway relays, each of another path."""
        async with self.client() as client:
            for path in itertools.cycle(self.paths):
                if self.stop.is_set():
                    break
                await self._ask("read", client.get(path), 200)
                await asyncio.sleep(pause_seconds)

    async def write(self, number: int) -> None:
        """Loads of three rows, one after the other."""
        async with self.client() as client:
            count = 0
            while not self.stop.is_set():
                table, name = f"{self.stamp}_loads{number}_{count // TABLE_COMMITS}", f"{number}-{count}"
                sent = client.post(f"/v1/loads/{NAMESPACE}/{table}?name=rows.csv", content=_csv(name))
                if await self._ask("load", sent, 201):
                    self.written.setdefault(table, set()).add(name)
                count += 1
                await asyncio.sleep(0.4)

    async def produce(self) -> None:
        """Three rows at a time to the stream of a table, which Kafka acknowledges and a worker commits."""
        table = f"{self.stamp}_streams"
        async with self.client() as client:
            first = client.post(f"/v1/loads/{NAMESPACE}/{table}?name=rows.csv", content=_csv("first"))
            if not await self._ask("load", first, 201):
                return
            names = self.written.setdefault(table, {"first"})
            for count in itertools.count():
                if self.stop.is_set():
                    break
                rows = [{"name": str(count), "row": row} for row in range(ROWS)]
                if await self._ask("produce", client.post(f"/v1/streams/{NAMESPACE}/{table}", json=rows), 202):
                    names.add(str(count))
                await asyncio.sleep(0.1)

    async def tell(self, number: int) -> None:
        """OpenLineage: START and COMPLETE of a run."""
        async with self.client() as client:
            while not self.stop.is_set():
                run = str(uuid.uuid4())
                for kind in ("START", "COMPLETE"):
                    event = {
                        "eventType": kind,
                        "eventTime": datetime.now(UTC).isoformat(),
                        "producer": "https://example.org/bench",
                        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
                        "run": {"runId": run},
                        "job": {"namespace": NAMESPACE, "name": f"{self.stamp}-{number}"},
                        "outputs": [{"namespace": NAMESPACE, "name": f"{self.stamp}-out"}],
                    }
                    if not await self._ask("lineage", client.post("/api/v1/lineage", json=event), 201):
                        break
                else:
                    self.runs.add(run)
                await asyncio.sleep(0.1)

    async def commit(self, key: str) -> None:
        """Iceberg commits by PyIceberg, which keeps its own connection: an append of three rows each."""
        engine = await asyncio.to_thread(Engine, self.url, key)
        count = 0
        while not self.stop.is_set():
            table, name = f"{self.stamp}_commits_{count // TABLE_COMMITS}", str(count)
            if await self._ask("commit", asyncio.to_thread(engine.append, table, name), None):
                self.written.setdefault(table, set()).add(name)
            count += 1
            await asyncio.sleep(0.5)

    async def follow(self) -> None:
        """A load whose body takes its time, and who follows it by server-sent events until it tells that it is done.

        A stream that ends says when to come again, and whoever follows comes again: that is no failure.
        """
        async with self.client() as client:
            while not self.stop.is_set():
                sent = asyncio.create_task(self._upload(client, uuid.uuid4().hex[:12]))
                await self._follow(client, sent)

    async def _upload(self, client: httpx.AsyncClient, name: str) -> str | None:
        async def body() -> AsyncIterator[bytes]:
            began = time.monotonic()
            yield b"name,row,words\n"
            for row in range(ROWS):
                yield f"{name},{row},".encode()
                while time.monotonic() - began < UPLOAD_SECONDS * (row + 1) / ROWS:
                    yield b"some words " * 200
                    await asyncio.sleep(0.2)
                yield b"\n"

        path = f"/v1/loads/{NAMESPACE}/{self.uploads}?name={name}.csv"
        answer = await self._ask("upload", client.post(path, content=body()), 201)
        if answer:
            self.written.setdefault(self.uploads, set()).add(name)
        return answer.json()["load_id"] if answer else None

    async def _follow(self, client: httpx.AsyncClient, sent: asyncio.Task[str | None]) -> None:
        await asyncio.sleep(UPLOAD_SECONDS / 10)
        newest = await self._ask("read", client.get("/v1/loads", params={"table": f"{NAMESPACE}.{self.uploads}"}), 200)
        load_id = newest.json()["items"][0]["load_id"] if newest and newest.json()["items"] else None
        ended = load_id is None
        while not ended:
            try:
                ended = await self._events(client, f"/v1/loads/{load_id}/events")
                self.answers["stream"] += 1
            except httpx.HTTPError as error:
                self._failed("stream", f"{type(error).__name__} {error}")
                await asyncio.sleep(1)
        told = await sent
        if told is not None and told != load_id:
            self._failed("stream", f"{load_id} was followed, {told} was sent")

    async def _events(self, client: httpx.AsyncClient, path: str) -> bool:
        """Whether the stream told the end; False when it said to come again."""
        async with client.stream("GET", path) as answer:
            answer.raise_for_status()
            again = False
            async for line in answer.aiter_lines():
                if line.startswith(("event: completed", "event: failed")):
                    if "failed" in line:
                        self._failed("stream", line)
                    return True
                again = again or line.startswith("retry:")
        if not again:
            self._failed("stream", "ended without a word")
        await asyncio.sleep(1)
        return False

    async def _ask(self, what: str, sent: Awaitable[Any], wanted: int | None) -> Any:
        """The answer when it is the one that was wanted; else None, and it is written down."""
        began = time.monotonic()
        try:
            answer = await sent
        except Exception as error:  # noqa: BLE001 - PyIceberg, Arrow and requests each raise their own: all are failures
            self._failed(what, f"{type(error).__name__} {error}")
            return None
        self.seconds.setdefault(what, []).append(time.monotonic() - began)
        if wanted is not None and answer.status_code != wanted:
            self._failed(what, f"{answer.status_code} {answer.text[:300]}")
            return None
        self.answers[what] += 1
        return answer if wanted is not None else True

    def _failed(self, what: str, why: str) -> None:
        self.failures.append(f"{datetime.now(UTC):%H:%M:%S.%f} {what}: {why}")
        print("  failed:", self.failures[-1], flush=True)

    async def account(self) -> list[str]:
        """What was acknowledged against what is there: one line each, and one for each difference."""
        said = []
        kinds = {"loads": f"{self.stamp}_loads", "uploads": self.uploads, "appends": f"{self.stamp}_commits"}
        if f"{self.stamp}_streams" in self.written:
            kinds["streams"] = f"{self.stamp}_streams"
        async with self.client() as client:
            for kind, prefix in kinds.items():
                tables = {table: names for table, names in self.written.items() if table.startswith(prefix)}
                wanted = {(table, name): ROWS for table, names in tables.items() for name in names}
                found: Counter[tuple[str, str]] = Counter()
                for table in tables:
                    found += await self._rows(client, table)
                # the worker has as long for the last rows of a stream as lineage for its last events
                until = time.monotonic() + CATCH_UP_SECONDS
                while kind == "streams" and found.total() < sum(wanted.values()) and time.monotonic() < until:
                    await asyncio.sleep(1)
                    found = await self._rows(client, *tables)
                said += compared(f"rows of {kind}", wanted, found)
            said += compared(
                "runs in lineage", dict.fromkeys(((r,) for r in self.runs), 1), await self._completed(client)
            )
        return said

    async def _rows(self, client: httpx.AsyncClient, table: str) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        path = f"/v1/tables/{NAMESPACE}/{table}/rows?format=ndjson&columns=name"
        async with client.stream("GET", path, timeout=300) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                found[table, json.loads(line)["name"]] += 1
        return found

    async def _completed(self, client: httpx.AsyncClient) -> Counter[tuple[str]]:
        """Runs that lineage knows as completed; it has half a minute to catch up with its events."""
        found: Counter[tuple[str]] = Counter()
        until = time.monotonic() + CATCH_UP_SECONDS
        todo = set(self.runs)
        limit = asyncio.Semaphore(8)

        async def look(run: str) -> None:
            async with limit:
                answer = await client.get(f"/v1/runs/{run}")
                if answer.status_code == 200 and answer.json()["state"] == "completed":
                    found[run,] = 1

        while todo and time.monotonic() < until:
            await asyncio.gather(*(look(run) for run in todo))
            todo -= {run for (run,) in found}
        return found

    def summary(self) -> str:
        lines = [f"{sum(self.answers.values()):,} requests answered, {len(self.failures)} failed"]
        for what, seconds in sorted(self.seconds.items()):
            ordered = sorted(seconds)
            middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
            lines.append(
                f"  {what:<8} {self.answers[what]:>8,}   median {middle * 1000:6.0f} ms, "
                f"p99 {late * 1000:6.0f} ms, slowest {ordered[-1]:5.1f} s"
            )
        if self.answers["stream"]:
            lines.append(f"  {'stream':<8} {self.answers['stream']:>8,}")
        return "\n".join(lines)


def compared(what: str, wanted: Mapping[Any, int], found: Counter[Any]) -> list[str]:
    """What was acknowledged and is not there; what is there more often than once; what nobody was told of."""
    each = next(iter(wanted.values()), 1)
    lost = [name for name, count in wanted.items() if found[name] < count]
    doubled = [name for name, count in found.items() if count > each]
    untold = [name for name in found if name not in wanted]
    said = [
        f"{what}: {sum(wanted.values()):,} acknowledged, {sum(found.values()):,} found, "
        f"{len(lost)} lost, {len(doubled)} doubled, {len(untold)} not acknowledged"
    ]
    return [*said, *(f"  lost: {name}" for name in lost[:10]), *(f"  doubled: {name}" for name in doubled[:10])]


def _csv(name: str) -> str:
    return "name,row\n" + "".join(f"{name},{row}\n" for row in range(ROWS))


class Engine:
    """PyIceberg. Its repeats are off: every request counts."""

    def __init__(self, url: str, key: str) -> None:
        import pyarrow as pa
        from pyiceberg.catalog.rest import RestCatalog

        self._schema = pa.schema([pa.field("name", pa.string()), pa.field("row", pa.int64())])
        self._catalog = RestCatalog("bench", uri=f"{url}/iceberg", warehouse="lakehouse", token=key)
        self._table: Table | None = None

    def append(self, name: str, rows_of: str) -> None:
        """Three rows of that name, as one snapshot."""
        import pyarrow as pa

        table = self._table
        if table is None or table.name() != (NAMESPACE, name):
            table = self._catalog.create_table_if_not_exists(
                (NAMESPACE, name), self._schema, properties={"commit.retry.num-retries": "0"}
            )
        # not kept while it is in doubt: after a failure the next one makes or loads it anew
        self._table = None
        table.append(pa.table({"name": [rows_of] * ROWS, "row": list(range(ROWS))}, schema=self._schema))
        self._table = table
