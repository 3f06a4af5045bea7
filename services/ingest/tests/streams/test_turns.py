"""The worker as a process beside another colour's, and without brokers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import orjson

from lakegate.embedded.ports import free_ports
from lakegate_chassis.testing import eventually


def decide(file: Path, colour: str | None, generation: int) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"colour": colour, "generation": generation}))
    fresh.rename(file)


def one(number: int) -> bytes:
    return orjson.dumps({"id": number})


async def consumers(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.get(f"{url}/readyz")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["consumers"]
    return found


async def test_only_the_colour_whose_turn_it_is_commits_and_the_next_goes_on(
    streams_at: Any, producing_url: str, catalog: Any, start_worker: Any, tmp_path: Path
) -> None:
    streams = streams_at(producing_url)
    file = tmp_path / "consumers"
    decide(file, "blue", 1)
    turn = {"INGEST_CONSUMERS__FILE": str(file), "INGEST_CONSUMERS__POLL_SECONDS": "0.1"}
    blue = await start_worker(catalog.url, INGEST_CONSUMERS__COLOUR="blue", **turn)
    green = await start_worker(catalog.url, INGEST_CONSUMERS__COLOUR="green", **turn)
    assert (await streams.send("turn.t", one(1))).status_code == 202
    await streams.has("turn.t", [1])
    assert (await consumers(blue.url))["groups"] == {"streams": True}
    assert (await consumers(green.url))["groups"] == {"streams": False}

    decide(file, None, 2)

    async def left() -> bool:
        standing = await consumers(blue.url)
        return standing["generation"] == 2 and standing["settled"] and not standing["running"]

    await eventually(left, within_seconds=30)
    assert (await streams.send("turn.t", one(2))).status_code == 202
    decide(file, "green", 3)
    await streams.has("turn.t", [1, 2])
    assert (await consumers(green.url))["groups"] == {"streams": True}
    assert (await consumers(blue.url))["groups"] == {"streams": False}


async def test_a_worker_that_reaches_no_broker_lives_and_is_not_ready(
    process: Any, settings: Any, catalog: Any, tmp_path: Path
) -> None:
    (closed,) = free_ports(1)
    environment = settings.environment(
        catalog.url,
        tmp_path / "spool",
        INGEST_KAFKA__BOOTSTRAP=f"127.0.0.1:{closed}",
        INGEST_KAFKA__REQUEST_SECONDS="1",
    )
    worker = process("lakegate_ingest.streams", environment, tmp_path / "worker.log")
    try:
        await worker.start()
        async with httpx.AsyncClient(trust_env=False, base_url=worker.url, timeout=30) as client:
            assert (await client.get("/livez")).status_code == 200
            answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["failures"] == {"kafka": "ConnectionError"}
    finally:
        worker.kill()
