"""After a round: is everything that was acknowledged there, once, in tables, catalog and lineage?"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import orjson

from chaos.clients import NAMESPACE, ROWS, TABLES
from chaos.iceberg import MARK
from chaos.ledger import Ledger, Operation, now

# How long lineage may take to catch up with what Kafka kept for it meanwhile.
CATCH_UP_SECONDS = 90.0
Found = TypeVar("Found")
_EVENTS = ("START", "COMPLETE")


class Checks:
    """Reads what a round left behind, through the gateway, as anybody would. Raises httpx.HTTPError."""

    def __init__(self, http: httpx.AsyncClient, ledger: Ledger, tag: str) -> None:
        self._http = http
        self._ledger = ledger
        self._tag = tag

    async def all(self, dataset: str) -> None:
        by_table: dict[str, list[Operation]] = defaultdict(list)
        for operation in self._ledger.operations:
            if "table" in operation.facts:
                by_table[operation.facts["table"]].append(operation)
        for table, operations in by_table.items():
            if await self._rows(table, operations):
                await self._catalog(table)
        await self._stream([item for item in self._ledger.operations if "stream" in item.facts])
        await self._marks(by_table.get(f"{self._tag}_commits", []))
        await self._runs()
        await self._descriptions(dataset)
        await self._groups()

    async def _rows(self, table: str, operations: list[Operation]) -> bool:
        """Every acknowledged row once, every other at most once. False when there is no such table."""
        found = await self._read(table)
        if found is None:
            self._lost(*(item.name for item in operations if item.acknowledged))
            return False
        for item in operations:
            rows = found.pop(item.name, Counter())
            if (item.acknowledged or rows) and len(rows) != ROWS:
                self._lost(f"{item.name}: {len(rows)} of {ROWS} rows in {table}")
            if rows and max(rows.values()) > 1:
                self._doubled(f"{item.name}: rows {max(rows.values())} times in {table}")
        if found:
            self._doubled(f"{table} has rows that nobody sent: {sorted(found)[:3]}")
        return True

    async def _read(self, table: str) -> dict[str, Counter[int]] | None:
        """How often each row of each operation is in a table; None when there is no such table."""
        answer = await self._http.get(
            f"/v1/tables/{NAMESPACE}/{table}/rows", params={"format": "ndjson", "columns": "op,row"}
        )
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        found: dict[str, Counter[int]] = defaultdict(Counter)
        for line in answer.content.splitlines():
            row = orjson.loads(line)
            found[row["op"]][row["row"]] += 1
        return found

    async def _stream(self, operations: list[Operation]) -> None:
        """What the brokers have is in the table once; an operation is there as often as it was sent, at most."""
        if not operations:
            return
        table = operations[0].facts["stream"]
        path = f"/v1/streams/{NAMESPACE}/{table}"

        async def status() -> dict[str, Any]:
            return await self._get(path)

        # what kept the stream is shown until just after the commit that ends the lag
        ended = await self._eventually(status, lambda found: found["lag"] == 0 and not found["failure"])
        if ended["lag"] or ended["failure"] or ended["rejects"]:
            self._lost(f"{table}: lag {ended['lag']}, failure {ended['failure']}, rejects {ended['rejects']}")
        found = await self._read(table) or {}
        records = sum(partition["end"] for partition in ended["partitions"])
        rows = sum(sum(of_one.values()) for of_one in found.values())
        if rows < records:
            self._lost(f"{table}: {rows} rows of {records} records")
        if rows > records:
            self._doubled(f"{table}: {rows} rows of {records} records")
        for item in operations:
            times = found.get(item.name, Counter())
            if item.acknowledged and len(times) != ROWS:
                self._lost(f"{item.name}: {len(times)} of {ROWS} rows in {table}")
            if times and max(times.values()) > item.repeats + 1:
                self._doubled(f"{item.name}: sent {item.repeats + 1} times, there {max(times.values())} times")

    async def _catalog(self, table: str) -> None:
        """One dataset, found once by name, once by search, once in the graph."""
        name = f"{NAMESPACE}.{table}"
        datasets = await self._get("/v1/datasets", namespace=TABLES, name=name)
        self._once(len(datasets["items"]), f"dataset {name} in the catalog")

        async def hits() -> int:
            page = await self._get("/v1/search", q=table, limit="50")
            return sum(item["name"] == name for item in page["items"])

        self._once(await self._eventually(hits, bool), f"dataset {name} in the search")
        if table.endswith("_commits"):
            return  # no load wrote it, so lineage has not heard of it

        async def nodes() -> int:
            answer = await self._http.get("/v1/lineage/graph", params={"namespace": TABLES, "name": name})
            if answer.status_code == 404:
                return 0
            return sum(node["name"] == name for node in answer.raise_for_status().json()["nodes"])

        self._once(await self._eventually(nodes, bool), f"dataset {name} in lineage")

    async def _marks(self, operations: list[Operation]) -> None:
        """Of each acknowledged commit one snapshot."""
        if not operations:
            return
        answer = await self._http.get(
            f"/iceberg/v1/default/namespaces/{NAMESPACE}/tables/{operations[0].facts['table']}"
        )
        if answer.status_code == 404:
            return  # told by _rows
        snapshots = answer.raise_for_status().json()["metadata"].get("snapshots", [])
        marks = Counter(snapshot["summary"].get(MARK) for snapshot in snapshots)
        for item in operations:
            if marks[item.name] > 1:
                self._doubled(f"{item.name}: {marks[item.name]} snapshots")
            if item.acknowledged and not marks[item.name]:
                self._lost(f"{item.name}: no snapshot")

    async def _runs(self) -> None:
        """Each run with a START and a COMPLETE, and each once in the list of its job."""
        jobs = set()
        for item in self._ledger.acknowledged():
            run = item.facts.get("run")
            if run is None:
                continue

            async def events(run: str = run) -> list[str]:
                answer = await self._http.get(f"/v1/runs/{run}")
                if answer.status_code == 404:
                    return []
                return sorted(event["type"] for event in answer.raise_for_status().json()["events"])

            found = await self._eventually(events, lambda found: set(found) >= set(_EVENTS))
            for kind, times in Counter(found).items():
                if times > 1:
                    self._doubled(f"{item.name}: run {run} has {times} {kind}")
            if missing := set(_EVENTS) - set(found):
                self._lost(f"{item.name}: run {run} has no {', '.join(sorted(missing))}")
            jobs.add((NAMESPACE, item.facts["job"]) if "job" in item.facts else (TABLES, self._load_job(item)))
        for namespace, name in sorted(jobs):
            page = await self._get("/v1/runs", job_namespace=namespace, job_name=name, limit="500")
            for run, times in Counter(item["id"] for item in page["items"]).items():
                if times > 1:
                    self._doubled(f"run {run} is listed {times} times")

    def _load_job(self, item: Operation) -> str:
        return f"load.{NAMESPACE}.{item.facts['table']}"

    async def _descriptions(self, dataset: str) -> None:
        """Every PATCH is one version; nobody else writes there."""
        done = len(self._ledger.acknowledged("describe"))
        versions = (await self._get(f"/v1/datasets/{dataset}"))["version"] - 1
        if versions < done:
            self._lost(f"{done - versions} of {done} PATCHes")
        # one may have been under way when the round ended in a violation
        if versions > len([item for item in self._ledger.operations if item.kind == "describe"]):
            self._doubled(f"{versions} versions of {done} PATCHes")

    async def _groups(self) -> None:
        """Nobody lags, and nobody gave up on an event."""

        async def lag() -> int:
            page = await self._get("/v1/events/groups")
            return max((item["lag"] for item in page["items"]), default=0)

        if left := await self._eventually(lag, lambda left: left == 0):
            self._lost(f"a group is still {left} events behind")
        for letter in (await self._get("/v1/events/dead-letters"))["items"]:
            self._lost(f"dead letter: {str(letter)[:300]}")

    async def _eventually(self, ask: Callable[[], Awaitable[Found]], satisfied: Callable[[Found], bool]) -> Found:
        """What `ask` gives once it satisfies, or in the end. Too much satisfies at once: it will not get less."""
        deadline = now() + CATCH_UP_SECONDS
        while True:
            found = await ask()
            if satisfied(found) or now() > deadline:
                return found
            await asyncio.sleep(0.2)

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        answer = await self._http.get(path, params=query)
        document: dict[str, Any] = answer.raise_for_status().json()
        return document

    def _once(self, times: int, what: str) -> None:
        if times < 1:
            self._lost(f"no {what}")
        if times > 1:
            self._doubled(f"{times} times: {what}")

    def _lost(self, *what: str) -> None:
        self._ledger.lost.extend(what)

    def _doubled(self, what: str) -> None:
        self._ledger.duplicates.append(what)
