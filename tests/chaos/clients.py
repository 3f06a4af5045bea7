"""The load: a few clients, each of which wants one thing done at a time and repeats it until it is acknowledged."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx

from chaos.door import Door
from chaos.ledger import Ledger, Operation

NAMESPACE = "chaos"
TABLES = "lakegate://default"
ROWS = 20
STANDING_ROWS = 1000
# Nothing here takes longer, with the longest fault in its middle; what does was forgotten.
OPERATION_SECONDS = 240.0
# Tens of requests a second from all of them.
BETWEEN_SECONDS = 0.15
# A status that says "not now", or that what was wanted has begun already; any other below 500 is a no for good.
_AGAIN = frozenset({408, 409, 425, 429})


class Client(ABC):
    """`kind` is what it does; `tag` names the round, so that each has tables, jobs and datasets of its own."""

    kind: ClassVar[str]

    def __init__(self, door: Door, tag: str, number: int = 0) -> None:
        self.door = door
        self.ledger: Ledger = door.ledger
        self.tag = tag
        self.number = number
        self._count = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._count += 1
            operation = self.ledger.begin(self.kind, f"{self.tag}-{self.kind}{self.number}-{self._count}")
            try:
                async with asyncio.timeout(OPERATION_SECONDS):
                    await self.operate(operation)
            except TimeoutError:
                self.ledger.violations.append(f"{operation.name} was not acknowledged in {OPERATION_SECONDS:g} s")
                return
            await asyncio.sleep(BETWEEN_SECONDS)

    @abstractmethod
    async def operate(self, operation: Operation) -> None:
        """Ask until it is acknowledged, and acknowledge it in the ledger."""

    async def until(
        self,
        operation: Operation,
        status: set[int],
        ask: Callable[[], Awaitable[httpx.Response | None]],
        *,
        also: frozenset[int] = frozenset(),
    ) -> httpx.Response:
        """Ask until the answer has one of these statuses; `also` are refusals that may come besides "not now"."""
        while True:
            answer = await ask()
            if answer is not None and answer.status_code in status:
                return answer
            if answer is not None and answer.status_code < 500 and answer.status_code not in _AGAIN | also:
                self.ledger.violations.append(f"{operation.name}: refused for good: {answer.status_code} {answer.text}")
            if answer is None or answer.status_code not in also:
                operation.repeats += 1
            await self.door.pause(answer)


class Loader(Client):
    """CSV with an Idempotency-Key; two of them write the same table."""

    kind = "load"

    def table(self) -> str:
        return f"{self.tag}_{self.kind}s"

    async def operate(self, operation: Operation) -> None:
        receipt = await self.load(operation)
        self.ledger.acknowledge(operation, run=receipt["run_id"])

    async def load(self, operation: Operation) -> dict[str, Any]:
        table = self.table()
        operation.facts["table"] = table
        body = "op,row,words\n" + "".join(f"{operation.name},{row},some words\n" for row in range(ROWS))

        async def ask() -> httpx.Response | None:
            answer = await self.door.ask(
                self.kind,
                "POST",
                f"/v1/loads/{NAMESPACE}/{table}",
                params={"name": f"{operation.name}.csv"},
                content=body.encode(),
                headers={"idempotency-key": operation.name, "content-type": "text/csv"},
            )
            if answer is not None and answer.status_code == 202:
                return await self._followed(answer.headers["location"])
            return answer

        answer = await self.until(operation, {200, 201}, ask)
        receipt: dict[str, Any] = answer.json() if answer.status_code == 201 else answer.json()["receipt"]
        if receipt["rows_written"] != ROWS:
            self.ledger.violations.append(f"{operation.name}: the receipt says {receipt['rows_written']} rows")
        return receipt

    async def _followed(self, location: str) -> httpx.Response | None:
        """The state of a load that outlived its request, once it completed; None to send the request again."""
        while True:
            answer = await self.door.ask(self.kind, "GET", location)
            if answer is not None and answer.status_code == 200:
                state = answer.json()["state"]
                if state == "completed":
                    return answer
                if state == "failed":
                    return None
            elif answer is not None and answer.status_code == 404:
                self.ledger.violations.append(f"the accepted load {location} is not known any more")
                return None
            await self.door.pause(answer)


class Witness(Loader):
    """A load is done for it when lineage tells of the run: the way of an event, from end to end."""

    kind = "event"

    async def operate(self, operation: Operation) -> None:
        receipt = await self.load(operation)
        operation.facts["run"] = receipt["run_id"]

        async def ask() -> httpx.Response | None:
            return await self.door.ask(self.kind, "GET", f"/v1/runs/{receipt['run_id']}")

        while (await self.until(operation, {200}, ask, also=frozenset({404}))).json()["state"] != "completed":
            await self.door.pause(None)
        self.ledger.acknowledge(operation)


class Streamer(Client):
    """Rows through Kafka. A request has no key: one whose answer was lost is sent again, and may be there twice."""

    kind = "stream"

    async def operate(self, operation: Operation) -> None:
        operation.facts["stream"] = f"{self.tag}_stream"
        body = "".join(f'{{"op": "{operation.name}", "row": {row}}}\n' for row in range(ROWS))
        path = f"/v1/streams/{NAMESPACE}/{operation.facts['stream']}"

        async def ask() -> httpx.Response | None:
            return await self.door.ask(self.kind, "POST", path, content=body.encode())

        await self.until(operation, {202}, ask)
        self.ledger.acknowledge(operation)


class Lineage(Client):
    """OpenLineage START and COMPLETE of runs whose ids it knows."""

    kind = "lineage"

    async def operate(self, operation: Operation) -> None:
        run = str(uuid.uuid4())
        operation.facts |= {"run": run, "job": self.job()}
        for kind in ("START", "COMPLETE"):
            # made once: the same event again is the same event
            event = {
                "eventType": kind,
                "eventTime": datetime.now(UTC).isoformat(),
                "producer": "https://example.org/chaos",
                "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
                "run": {"runId": run},
                "job": {"namespace": NAMESPACE, "name": self.job()},
                "inputs": [{"namespace": NAMESPACE, "name": f"{self.tag}-in"}],
                "outputs": [{"namespace": NAMESPACE, "name": f"{self.tag}-out"}],
            }
            await self.until(
                operation,
                {201},
                lambda event=event: self.door.ask(self.kind, "POST", "/api/v1/lineage", json=event),  # type: ignore[misc]
            )
        self.ledger.acknowledge(operation)

    def job(self) -> str:
        return f"{self.tag}-job{self.number}"


class Describer(Client):
    """PATCHes one dataset under If-Match; after an answer that tells nothing it looks before it repeats."""

    kind = "describe"

    def __init__(self, door: Door, tag: str, dataset: str, number: int = 0) -> None:
        super().__init__(door, tag, number)
        self._path = f"/v1/datasets/{dataset}"

    async def operate(self, operation: Operation) -> None:
        async def look() -> httpx.Response | None:
            return await self.door.ask(self.kind, "GET", self._path)

        while True:
            found = await self.until(operation, {200}, look)
            if found.json()["description"] == operation.name:
                break
            answer = await self.door.ask(
                self.kind,
                "PATCH",
                self._path,
                json={"description": operation.name},
                headers={"if-match": found.headers["etag"]},
            )
            if answer is not None and answer.status_code == 200:
                break
            operation.repeats += 1
            await self.door.pause(answer)
        self.ledger.acknowledge(operation)


class Reader(Client):
    """Reads a table that nobody changes: all of it or an error, never a part."""

    kind = "read"

    async def operate(self, operation: Operation) -> None:
        async def ask() -> httpx.Response | None:
            return await self.door.ask(
                self.kind, "GET", f"/v1/tables/{NAMESPACE}/standing/rows", params={"format": "ndjson"}
            )

        answer = await self.until(operation, {200}, ask)
        rows = len(answer.content.splitlines())
        if rows != STANDING_ROWS:
            self.ledger.violations.append(f"a read of {STANDING_ROWS} rows ended well with {rows}")
        self.ledger.acknowledge(operation)
