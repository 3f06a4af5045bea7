"""Loads as jobs: waiting, progress, lists, rejected rows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest
from prometheus_client import REGISTRY

from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.metrics import EARLY_READS
from lakegate_ingest.settings import EngineSettings, JobSettings

ROWS = b"a,b\n1,x\n2,y\n"
DIRTY = b"a,b\n1,x\nthree,y\n" + b"".join(b"%d,z\n" % n for n in range(500)) + b"many,z\n"
LOAD_TABLE = ("GET", "/tables/orders")


async def events_of(client: httpx.AsyncClient, load_id: str) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    async with client.stream("GET", f"/v1/loads/{load_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, orjson.loads(line.removeprefix("data: "))))
    return found


async def test_a_load_that_takes_longer_than_the_wait_answers_202_and_its_progress_streams_to_the_receipt(
    settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    async with serving(create_app(settings(gate.url, tmp_path / "spool"))) as url:
        api = make(url, tenant)
        gate.on(*LOAD_TABLE, "hold")
        answer = await api.load("shop.orders", ROWS, prefer="wait=0")
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "wait=0"
        assert answer.headers["retry-after"]
        load_id = answer.json()["load_id"]
        assert answer.headers["location"] == f"/v1/loads/{load_id}"
        following = asyncio.create_task(events_of(api.client, load_id))
        await gate.reached.wait()
        gate.released.set()
        events = await following
        assert [name for name, _ in events][-1] == "completed"
        assert {name for name, _ in events[:-1]} == {"progress"}
        assert events[0][1]["bytes_received"] == len(ROWS)
        assert events[-1][1]["rows_written"] == 2
        assert (await api.client.get(f"/v1/loads/{load_id}")).json()["receipt"] == events[-1][1]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        (["respond-async"], "respond-async"),
        (["Respond-Async; x=1, wait=1"], "respond-async, wait=1"),
        (["wait = 0"], "wait=0"),
        (["handling=lenient", 'Wait="0"'], "wait=0"),
        (['note="a, wait=9", wait=0, wait=8'], "wait=0"),
    ],
)
async def test_a_preference_is_read_as_rfc_7240_has_it(
    settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str, prefer: list[str], applied: str
) -> None:
    async with serving(create_app(settings(gate.url, tmp_path / "spool"))) as url:
        api = make(url, tenant)
        gate.on(*LOAD_TABLE, "hold")
        headers = [("prefer", value) for value in prefer]
        answer = await api.client.post("/v1/loads/shop/orders", content=ROWS, headers=headers)
        gate.released.set()
        assert (answer.status_code, answer.headers["preference-applied"]) == (202, applied)
        await api.ended(answer.json()["load_id"])


async def test_who_runs_a_load_does_not_hear_of_a_call_that_came_too_late(
    settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str, database: Any
) -> None:
    async with serving(create_app(settings(gate.url, tmp_path / "spool"))) as url:
        api = make(url, tenant)
        assert (await api.load("shop.orders", ROWS)).status_code == 201
        gate.on("POST", "/tables/orders", "hold")
        load_id = (await api.load("shop.orders", ROWS, prefer="wait=0")).json()["load_id"]
        await gate.reached.wait()
        late = await api.client.delete(f"/v1/loads/{load_id}")
        assert (late.status_code, late.json()["type"]) == (409, "/problems/load-not-cancellable"), late.text
        admin = await asyncpg.connect(database.admin_url)
        told = await admin.fetch("SELECT cancelled FROM ingest.leases WHERE load_id = $1", UUID(load_id))
        await admin.close()
        assert [row["cancelled"] for row in told] == [False]
        gate.released.set()
        assert (await api.ended(load_id))["state"] == "completed"


async def test_following_a_load_that_has_ended_gives_its_end_at_once(api: Any) -> None:
    answer = await api.load("shop.orders", b"a,b\n")
    assert answer.status_code == 422
    load_id = answer.json()["load_id"]
    assert answer.headers["location"] == f"/v1/loads/{load_id}"
    assert await events_of(api.client, load_id) == [("failed", answer.json())]


async def test_progress_streams_of_a_tenant_are_bounded(
    settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    job = JobSettings(sse_max_clients_per_tenant=1)
    async with serving(create_app(settings(gate.url, tmp_path / "spool", job=job))) as url:
        api = make(url, tenant)
        gate.on(*LOAD_TABLE, "hold")
        load_id = (await api.load("shop.orders", ROWS, prefer="wait=0")).json()["load_id"]
        async with api.client.stream("GET", f"/v1/loads/{load_id}/events") as first:
            chunks = first.aiter_bytes()
            assert await anext(chunks)
            second = await api.client.get(f"/v1/loads/{load_id}/events")
        assert (second.status_code, second.json()["type"]) == (503, "/problems/too-many-streams")
        assert "Your tenant has 1 progress streams" in second.json()["detail"]
        gate.released.set()
        assert (await api.ended(load_id))["state"] == "completed"


async def test_rejected_rows_are_paged_with_line_column_value_and_reason(api: Any) -> None:
    assert (await api.load("shop.orders", ROWS)).status_code == 201
    answer = await api.load("shop.orders", DIRTY, params={"name": "orders.csv"})
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert (receipt["rows_in"], receipt["rows_written"], receipt["quarantine"]["rows"]) == (503, 501, 2)
    first = (await api.client.get(receipt["quarantine"]["href"], params={"limit": 1})).json()
    second = (await api.client.get(first["next"])).json()
    assert second["next"] is None
    found = [(item["file"], item["line"], item["column"], item["value"]) for item in first["items"] + second["items"]]
    assert found == [("orders.csv", 3, "a", "three"), ("orders.csv", 504, "a", "many")]
    assert all(item["reason"] and item["row"] for item in first["items"])
    lines = await api.client.get(receipt["quarantine"]["href"], headers={"accept": "application/x-ndjson"})
    assert [orjson.loads(line)["value"] for line in lines.content.splitlines()] == ["three", "many"]


async def test_a_file_that_is_bad_throughout_completes_with_every_row_in_quarantine(api: Any) -> None:
    assert (await api.load("shop.orders", ROWS)).status_code == 201
    answer = await api.load("shop.orders", b"a,b\n" + b"bad,x\n" * 2000)
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert (receipt["rows_in"], receipt["rows_written"], receipt["quarantine"]["rows"]) == (2000, 0, 2000)
    assert receipt["snapshot_id"] is None
    seen, path = 0, f"{receipt['quarantine']['href']}?limit=700"
    while path:
        page = (await api.client.get(path)).json()
        seen, path = seen + len(page["items"]), page["next"]
    assert seen == 2000


async def test_rejects_take_no_cursor_that_is_not_theirs(api: Any) -> None:
    receipt = (await api.load("shop.orders", ROWS)).json()
    answer = await api.client.get(receipt["quarantine"]["href"], params={"cursor": "x"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/bad-cursor"


async def test_loads_are_listed_newest_first_in_pages(api: Any) -> None:
    ids = [(await api.load("shop.orders", ROWS)).json()["load_id"] for _ in range(3)]
    ids.append((await api.load("shop.returns", b"")).json()["load_id"])
    seen: list[str] = []
    path = "/v1/loads?limit=2"
    while path:
        page = (await api.client.get(path)).json()
        seen += [item["load_id"] for item in page["items"]]
        path = page["next"]
    assert seen == ids[::-1]
    of_table = (await api.client.get("/v1/loads", params={"table": "shop.orders"})).json()["items"]
    assert [item["load_id"] for item in of_table] == ids[2::-1]
    failed = (await api.client.get("/v1/loads", params={"state": "failed"})).json()["items"]
    assert [item["load_id"] for item in failed] == ids[3:]


async def test_a_load_is_hidden_from_other_tenants_and_from_those_without_its_namespace(
    api: Any, make: Any, ingest_url: str
) -> None:
    load_id = (await api.load("shop.orders", ROWS)).json()["load_id"]
    for other in (make(ingest_url, "someone-else"), make(ingest_url, api.tenant, ("loads:write@travel.*",))):
        assert (await other.client.get(f"/v1/loads/{load_id}")).status_code == 404
        assert (await other.client.get("/v1/loads")).json()["items"] == []


def early(outcome: str) -> float:
    return REGISTRY.get_sample_value("lakegate_ingest_early_reads_total", {"outcome": outcome}) or 0


async def test_a_large_body_is_read_while_it_arrives(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    engine = EngineSettings(early_bytes=1 << 20, early_bytes_per_second=0)
    async with serving(create_app(settings(catalog.url, tmp_path / "spool", engine=engine))) as url:
        api = make(url, tenant)
        body = b"a,b\n" + b"1,some text to make it long\n" * 200_000
        before = early("used")
        answer = await api.load("shop.orders", body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["rows_written"] == 200_000
        assert early("used") == before + 1


async def test_a_load_that_is_complete_takes_the_engine_from_one_that_still_arrives(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    EARLY_READS.labels("dropped")
    engine = EngineSettings(early_bytes=1 << 20, early_bytes_per_second=0)
    app = create_app(settings(catalog.url, tmp_path / "spool", engine=engine))
    async with serving(app) as url:
        api = make(url, tenant)
        go_on = asyncio.Event()

        async def slowly() -> Any:
            yield b"a,b\n" + b"1,x\n" * 800_000
            await go_on.wait()
            yield b"1,x\n"

        assert (await api.client.get("/v1/loads")).json()["items"] == []
        slow = asyncio.create_task(api.load("shop.orders", slowly()))
        reader = app.state.resources.loads._pipeline._reader
        await eventually(lambda: reader._early)  # it has the engine: bytes that came are not read yet
        before = early("dropped")
        assert (await api.load("shop.returns", ROWS)).status_code == 201
        go_on.set()
        answer = await slow
        assert answer.status_code == 201, answer.text
        assert answer.json()["rows_written"] == 800_001
        assert early("dropped") == before + 1


def timed(phase: str) -> float:
    name = "lakegate_ingest_phase_duration_seconds_count"
    return REGISTRY.get_sample_value(name, {"phase": phase}) or 0


async def test_every_phase_of_a_load_is_timed_and_how_long_its_rows_were_on_their_way(api: Any) -> None:
    phases = ("receive", "queue", "read", "commit", "readable")
    before = {phase: timed(phase) for phase in phases}
    assert (await api.load("shop.orders", ROWS)).status_code == 201
    assert {phase: timed(phase) - before[phase] for phase in phases} == dict.fromkeys(phases, 1)
    assert (await api.load("shop.orders", ROWS, params={"dry_run": "true"})).status_code < 300
    assert timed("readable") == before["readable"] + 1
    assert (REGISTRY.get_sample_value("lakegate_ingest_spool_max_bytes") or 0) > 0
