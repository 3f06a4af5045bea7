"""One round: clients, a fault in their midst, the way back, and the account."""

from __future__ import annotations

import asyncio

import httpx

from chaos.checks import Checks
from chaos.clients import (
    NAMESPACE,
    OPERATION_SECONDS,
    STANDING_ROWS,
    Client,
    Describer,
    Lineage,
    Loader,
    Reader,
    Streamer,
    Witness,
)
from chaos.door import Door
from chaos.faults import Fault
from chaos.iceberg import Committer
from chaos.ledger import Back, Ledger, now
from chaos.suite import Stage

WARM_SECONDS = 60.0
BACK_SECONDS = 180.0
_LOOK_SECONDS = 0.05


class NotWarm(Exception):
    """The suite did not serve every client even before the fault: there is nothing to measure."""


async def prepare(stage: Stage) -> None:
    """The table that readers read; once is enough, and twice is no harm."""
    body = "id,words\n" + "".join(f"{row},some words\n" for row in range(STANDING_ROWS))
    async with _http(stage) as http:
        answer = await http.post(
            f"/v1/loads/{NAMESPACE}/standing",
            content=body.encode(),
            headers={"content-type": "text/csv", "idempotency-key": "standing"},
        )
        answer.raise_for_status()


async def play(stage: Stage, fault: Fault, tag: str) -> tuple[Ledger, Back | None]:
    """The ledger of one round with its verdicts, and how long it took until everything was acknowledged again."""
    ledger = Ledger()
    door = Door(stage.suite.url, stage.suite.key, ledger, may_cut=fault.cuts)
    stop = asyncio.Event()
    async with _http(stage) as http:
        registered = await http.post("/v1/datasets", json={"namespace": NAMESPACE, "name": tag})
        dataset = registered.raise_for_status().json()["id"]
        clients: list[Client] = [
            Loader(door, tag, 1),
            Loader(door, tag, 2),
            Witness(door, tag),
            Streamer(door, tag),
            Lineage(door, tag, 1),
            Lineage(door, tag, 2),
            Describer(door, tag, dataset),
            Reader(door, tag),
            Committer(door, tag, stage.suite.url, stage.suite.key, may_cut=fault.cuts),
        ]
        kinds = {client.kind for client in clients}
        running = [asyncio.create_task(client.run(stop)) for client in clients]
        try:
            if await _back(ledger, 0.0, kinds, WARM_SECONDS) is None:
                done = {item.kind for item in ledger.acknowledged()}
                raise NotWarm(f"before the fault, {', '.join(sorted(kinds - done))} did not get through")
            moment = await fault.inject(stage, ledger)
            back = await _back(ledger, moment, kinds, BACK_SECONDS)
        finally:
            stop.set()
            await asyncio.wait(running, timeout=OPERATION_SECONDS)
            for client in running:
                client.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await door.close()
        await Checks(http, ledger, tag).all(dataset)
    return ledger, back


async def _back(ledger: Ledger, moment: float, kinds: set[str], within_seconds: float) -> Back | None:
    deadline = now() + within_seconds
    while now() < deadline:
        if (back := ledger.back_since(moment, kinds)) is not None:
            return back
        await asyncio.sleep(_LOOK_SECONDS)
    return None


def _http(stage: Stage) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=stage.suite.url,
        headers={"authorization": f"Bearer {stage.suite.key}"},
        timeout=60,
        trust_env=False,
        transport=httpx.AsyncHTTPTransport(retries=3),
    )
