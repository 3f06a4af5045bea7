"""POST /api/v1/lineage and its batch form."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from lakegate_chassis.postgres import tenant_transaction

PRODUCER = "https://producer.example/1"


def run_event(**changes: Any) -> dict[str, Any]:
    event = {
        "eventType": "COMPLETE",
        "eventTime": "2026-03-01T12:00:00.000Z",
        "producer": PRODUCER,
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(uuid4())},
        "job": {"namespace": "etl", "name": "load"},
        "inputs": [{"namespace": "db", "name": "raw"}],
        "outputs": [{"namespace": "db", "name": "clean"}],
    }
    return {name: value for name, value in (event | changes).items() if value is not ...}


async def count(pool: asyncpg.Pool, tenant: str, table: str) -> int:
    async with tenant_transaction(pool, tenant) as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def test_a_run_event_is_answered_201_once_committed(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str
) -> None:
    event = run_event()
    answer = await client.post("/api/v1/lineage", json=event)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"run_id": event["run"]["runId"]}
    assert await count(pool, tenant, "runs") == 1
    assert await count(pool, tenant, "edges") == 2


async def test_a_repeated_event_changes_nothing(client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str) -> None:
    event = run_event()
    for _ in range(3):
        assert (await client.post("/api/v1/lineage", json=event)).status_code == 201
    assert [await count(pool, tenant, table) for table in ("events", "runs", "jobs", "datasets")] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("event", "tables"),
    [
        ({"job": {"namespace": "etl", "name": "static"}, "run": ...}, {"runs": 0, "jobs": 1, "edges": 2}),
        (
            {"dataset": {"namespace": "db", "name": "t"}, "run": ..., "job": ..., "inputs": ..., "outputs": ...},
            {"runs": 0, "jobs": 0, "datasets": 1},
        ),
        ({"inputs": None, "outputs": None, "run": {"runId": str(uuid4()), "facets": None}}, {"edges": 0, "runs": 1}),
    ],
    ids=["JobEvent", "DatasetEvent", "null lists"],
)
async def test_events_are_told_apart_by_their_shape(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str, event: dict[str, Any], tables: dict[str, int]
) -> None:
    answer = await client.post("/api/v1/lineage", json=run_event(**event))
    assert answer.status_code == 201, answer.text
    assert {table: await count(pool, tenant, table) for table in tables} == tables


async def test_a_run_id_that_is_no_uuid_is_mapped_per_job_and_kept(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str
) -> None:
    event = run_event(run={"runId": "manual__2026-03-01"})
    first = (await client.post("/api/v1/lineage", json=event)).json()["run_id"]
    again = (await client.post("/api/v1/lineage", json=event | {"eventType": "START"})).json()["run_id"]
    other = event | {"job": {"namespace": "etl", "name": "other"}}
    assert first == again != (await client.post("/api/v1/lineage", json=other)).json()["run_id"]
    async with tenant_transaction(pool, tenant) as connection:
        assert (
            await connection.fetchval("SELECT external_id FROM runs WHERE run_id = $1", first) == "manual__2026-03-01"
        )


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"eventTime": "yesterday"}, "/eventTime"),
        ({"eventTime": "2026-03-01"}, "/eventTime"),
        ({"eventTime": "2026-W09-7"}, "/eventTime"),
        ({"eventTime": "2026-03-01T12"}, "/eventTime"),
        ({"eventTime": "20260301T120000Z"}, "/eventTime"),
        ({"eventTime": "2026-03-01T12:00:00,5Z"}, "/eventTime"),
        ({"eventTime": ...}, ""),
        ({"eventTime": (datetime.now(UTC) + timedelta(days=2)).isoformat()}, "/eventTime"),
        ({"eventTime": "9999-12-31T23:59:59Z"}, "/eventTime"),
        ({"producer": ...}, ""),
        ({"eventType": "DONE"}, "/eventType"),
        ({"job": ...}, "/job"),
        ({"job": {"namespace": "", "name": "x"}}, "/job/namespace"),
        ({"job": {"namespace": "etl", "name": "a\x00b"}}, "/job/name"),
        ({"run": {}}, "/run"),
        ({"run": {"runId": ""}}, "/run/runId"),
        ({"run": {"runId": 7}}, "/run/runId"),
        ({"inputs": [{"namespace": "db", "name": "ok"}, {"namespace": "db"}]}, "/inputs/1"),
        ({"outputs": [{"namespace": "db", "name": "x" * 5000}]}, "/outputs/0/name"),
        ({"outputs": {}}, "/outputs"),
        ({"run": ..., "job": ...}, ""),
    ],
)
async def test_a_bad_event_is_answered_400_with_a_pointer(
    client: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/api/v1/lineage", json=run_event(**change))
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "/problems/invalid-event"
    # msgspec numbers no items in its paths where a member is missing
    assert problem["errors"][0]["pointer"].replace("/-", "/1") == pointer


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"eventTime": "\\ud800"}', b"[]", b"null", b'{"eventTime": "\x01"}'],
)
async def test_a_body_that_is_no_event_is_answered_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/api/v1/lineage", content=body)
    assert answer.status_code == 400, answer.text


async def test_facets_of_unknown_and_broken_shape_are_kept(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str
) -> None:
    facets = {"symlinks": {"identifiers": "none"}, "columnLineage": [], "mine": {"\u0000": "\u0000", "n": 10**400}}
    event = run_event(outputs=[{"namespace": "db", "name": "odd", "facets": facets}])
    assert (await client.post("/api/v1/lineage", json=event)).status_code == 201
    assert await count(pool, tenant, "facets") == 3
    assert await count(pool, tenant, "symlinks") == 0


async def test_a_gzipped_event_is_taken(client: httpx.AsyncClient) -> None:
    body = gzip.compress(httpx.Request("POST", "http://x", json=run_event()).content)
    answer = await client.post("/api/v1/lineage", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 201, answer.text
    answer = await client.post("/api/v1/lineage", content=body[:-9], headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400
    answer = await client.post("/api/v1/lineage", content=body, headers={"Content-Encoding": "br"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01t12:00:00.5z",
        "2026-03-01T13:00:00.123456789+01:00",
        "2026-03-01 13:00:00+0100",
        "2026-03-01T12:00:00",
    ],
)
async def test_an_event_time_is_read_as_rfc_3339_has_it(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str, time: str
) -> None:
    answer = await client.post("/api/v1/lineage", json=run_event(eventTime=time))
    assert answer.status_code == 201, answer.text
    async with tenant_transaction(pool, tenant) as connection:
        found = await connection.fetchval("SELECT event_time FROM events")
    assert found.replace(microsecond=0) == datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_all_members_of_a_gzip_body_are_read(client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str) -> None:
    gzipped = {"Content-Encoding": "gzip"}
    event = httpx.Request("POST", "http://x", json=run_event()).content
    members = gzip.compress(event[:50]) + gzip.compress(event[50:]) + gzip.compress(b"") + bytes(100)
    answer = await client.post("/api/v1/lineage", content=members, headers=gzipped)
    assert answer.status_code == 201, answer.text
    one = httpx.Request("POST", "http://x", json=run_event()).content
    other = httpx.Request("POST", "http://x", json=run_event()).content
    batch = gzip.compress(b"[" + one + b",") + gzip.compress(other + b"]")
    answer = await client.post("/api/v1/lineage/batch", content=batch, headers=gzipped)
    assert (answer.status_code, answer.json()["recorded"]) == (201, 2)
    assert await count(pool, tenant, "runs") == 3


@pytest.mark.parametrize(
    ("encoding", "tail"),
    [
        ("gzip", gzip.compress(b'{"a": 1}')),
        ("gzip", b"garbage"),
        ("gzip", gzip.compress(b" ")[:-4]),
        ("gzip", gzip.compress(b"") * 10_001),
        ("deflate", zlib.compress(b" ")),
        ("deflate", b"\0"),
    ],
)
async def test_what_follows_the_event_in_a_compressed_body_is_not_lost(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str, encoding: str, tail: bytes
) -> None:
    event = httpx.Request("POST", "http://x", json=run_event()).content
    body = gzip.compress(event) if encoding == "gzip" else zlib.compress(event)
    taken = await client.post("/api/v1/lineage", content=body, headers={"Content-Encoding": encoding})
    assert taken.status_code == 201, taken.text
    answer = await client.post("/api/v1/lineage", content=body + tail, headers={"Content-Encoding": encoding})
    assert answer.status_code == 400, answer.text
    assert await count(pool, tenant, "runs") == 1


async def test_an_event_that_is_too_large_is_answered_413(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    answer = await client.post("/api/v1/lineage", content=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/event-too-large"
    assert (await client.post("/api/v1/lineage", content=b" " * (9 << 20))).status_code == 413


async def test_a_batch_answers_for_each_of_its_events(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str
) -> None:
    batch = [run_event(), run_event(eventTime="never"), run_event()]
    answer = await client.post("/api/v1/lineage/batch", json=batch)
    assert answer.status_code == 207, answer.text
    result = answer.json()
    assert (result["received"], result["recorded"], result["refused"]) == (3, 2, 1)
    assert [item["status"] for item in result["items"]] == ["recorded", "refused", "recorded"]
    assert result["items"][1]["problem"]["type"] == "/problems/invalid-event"
    assert await count(pool, tenant, "runs") == 2
    answer = await client.post("/api/v1/lineage/batch", json=[run_event(), run_event()])
    assert (answer.status_code, answer.json()["recorded"]) == (201, 2)
    assert (await client.post("/api/v1/lineage/batch", json=[])).json()["received"] == 0
    assert (await client.post("/api/v1/lineage/batch", json={})).status_code == 400
    assert (await client.post("/api/v1/lineage/batch", json=[0] * 1001)).status_code == 413


@pytest.fixture
async def picky_database(database: Any) -> AsyncIterator[str]:
    """PostgreSQL refuses one job's name: no event that our parser lets through is known to be refused otherwise."""
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("ALTER TABLE lineage.jobs ADD CONSTRAINT picky CHECK (name <> 'poison')")
    yield "poison"
    await admin.execute("ALTER TABLE lineage.jobs DROP CONSTRAINT picky")
    await admin.close()


async def test_an_event_that_the_database_refuses_does_not_fail_its_neighbours(
    client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str, picky_database: str
) -> None:
    poison = run_event(job={"namespace": "etl", "name": picky_database})
    good = [run_event() for _ in range(20)]
    answers = await asyncio.gather(
        *(client.post("/api/v1/lineage", json=event) for event in (*good[:10], poison, *good[10:]))
    )
    assert [answer.status_code for answer in answers] == [201] * 10 + [400] + [201] * 10
    assert await count(pool, tenant, "runs") == 20
    answer = await client.post("/api/v1/lineage/batch", json=[run_event(), poison, run_event(), run_event()])
    assert [item["status"] for item in answer.json()["items"]] == ["recorded", "refused", "recorded", "recorded"]
    assert await count(pool, tenant, "runs") == 23


async def test_tenants_do_not_see_each_other(client: httpx.AsyncClient, pool: asyncpg.Pool, tenant: str) -> None:
    await client.post("/api/v1/lineage", json=run_event())
    assert await count(pool, tenant, "runs") == 1
    assert await count(pool, f"{tenant}-other", "runs") == 0
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM runs") == 0


@pytest.mark.parametrize(
    ("scope", "change", "status"),
    [
        ("lineage:read", {}, 403),
        ("lineage:write", {}, 201),
        ("lineage:write@etl", {"outputs": []}, 201),
        ("lineage:write@etl", {}, 403),
        ("lineage:write@db", {}, 403),
        ("lineage:write@travel.*", {"job": {"namespace": "travel.jobs", "name": "x"}, "outputs": []}, 201),
        ("lineage:write@travel", {"job": {"namespace": "travel", "name": "x"}, "outputs": "ours"}, 201),
        ("lineage:write@other", {"job": {"namespace": "other", "name": "x"}, "outputs": "ours"}, 403),
    ],
)
async def test_a_scope_with_a_pattern_holds_for_the_job_and_for_what_is_written(
    client_with: Any, tenant: str, scope: str, change: dict[str, Any], status: int
) -> None:
    if change.get("outputs") == "ours":
        change = change | {"outputs": [{"namespace": f"lakegate://{tenant}", "name": "travel.flights"}]}
    answer = await client_with(scope).post("/api/v1/lineage", json=run_event(**change))
    assert answer.status_code == status, answer.text
