"""A request to a stream and its repeats with one Idempotency-Key add their rows once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import KafkaError

from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.testing import eventually
from lakegate_contracts.identity import Principal
from lakegate_contracts.names import TableName
from lakegate_ingest.errors import Unacknowledged
from lakegate_ingest.streams.producer import Record, send_records
from lakegate_ingest.streams.repeats import Repeats
from lakegate_ingest.streams.requests import Producing
from lakegate_ingest.streams.topics import topic_of
from lakegate_ingest.streams.transactions import REQUEST_HEADER, Transactions

KEY = {"idempotency-key": "order-17"}
BODY = b'{"id": 2}\n{"id": 3}'


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.admin_url)
    yield connection
    await connection.close()


async def end_lease(admin: asyncpg.Connection, tenant: str) -> None:
    """What the process that works on a request does not do when it dies."""
    assert await admin.fetchval(
        "UPDATE ingest.stream_requests SET lease_until = now() WHERE tenant = $1 AND accepted IS NULL RETURNING true",
        tenant,
    )


async def test_a_repeat_gets_the_first_answer_and_adds_nothing(streams: Any) -> None:
    assert (await streams.send("once.t", b'{"id": 1}')).status_code == 202
    first = await streams.send("once.t", BODY, headers=KEY)
    again = await streams.send("once.t", BODY, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202), first.text + again.text
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert again.json() == first.json()
    other = await streams.send("once.t", b'{"id": 4}', headers=KEY)
    laxer = await streams.send("once.t", BODY, headers=KEY, on_bad_row="quarantine")
    assert [(answer.status_code, answer.json()["type"]) for answer in (other, laxer)] == [
        (422, "/problems/idempotency-key-reused")
    ] * 2
    bad = await streams.send("once.t", BODY, headers={"idempotency-key": "x" * 300})
    assert (bad.status_code, bad.json()["type"]) == (422, "/problems/bad-idempotency-key")
    await streams.has("once.t", [1, 2, 3])

    async def caught_up() -> bool:
        return bool((await streams.api.client.get(streams.path("once.t"))).json()["lag"] == 0)

    await eventually(caught_up)  # the mark of a transaction is no record that is missing
    await streams.send("once.t", b'{"id": 5}')
    await streams.has("once.t", [1, 2, 3, 5])


async def test_a_refused_request_gives_its_key_back(streams: Any) -> None:
    assert (await streams.send("back.t", b'{"id": 1}')).status_code == 202
    refused = await streams.send("back.t", b'{"id": "x"}', headers=KEY)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bad-rows")
    assert (await streams.send("back.t", BODY, headers=KEY)).status_code == 202
    await streams.has("back.t", [1, 2, 3])


@pytest.fixture
async def asleep(settings: Any, catalog: Any, kafka_settings: Any, spool: Any, tenant: str) -> AsyncIterator[Any]:
    """asleep(table) -> another process's request with KEY and BODY, asleep before its commit; and what wakes it."""
    pool = await open_pool(settings(catalog.url, spool).postgres, "ingest")

    class Sleeper(Transactions):
        sleeping = asyncio.Event()
        woken = asyncio.Event()

        async def send(self, slot: Any, topic: str, partition: int, records: Any, request_id: Any) -> Any:
            await slot.producer.begin_transaction()
            mark = (REQUEST_HEADER, request_id.bytes)
            placed = await send_records(
                slot.producer, topic, partition, [record._replace(headers=[mark]) for record in records]
            )
            self.sleeping.set()
            await self.woken.wait()
            try:
                await slot.producer.commit_transaction()
            except KafkaError as error:
                raise Unacknowledged(f"{type(error).__name__}") from error
            return placed

    transactions = Sleeper(Connections(kafka_settings), most=1, ack_seconds=10)
    repeats = Repeats(pool, transactions, lease_seconds=60, hours=1)

    async def request(table: str) -> tuple[asyncio.Task[Any], Callable[[], None]]:
        namespace, _, name = table.rpartition(".")
        wanted = Producing(Principal(tenant=tenant, subject="ana", scopes=()), "", TableName(namespace, name))
        records = [Record(row, []) for row in BODY.splitlines()]

        async def run() -> Any:
            async with repeats.claim(wanted, KEY["idempotency-key"], BODY) as claim:
                return await repeats.send(wanted, claim, topic_of(tenant, wanted.table), records)

        task = asyncio.create_task(run())
        async with asyncio.timeout(60):
            await transactions.sleeping.wait()
        return task, transactions.woken.set

    yield request
    await transactions.close()
    await pool.close()


async def test_a_repeat_beside_the_first_request_waits_and_one_after_its_death_takes_over(
    streams: Any, asleep: Any, admin: asyncpg.Connection
) -> None:
    assert (await streams.send("asleep.t", b'{"id": 1}')).status_code == 202
    task, wake = await asleep("asleep.t")
    beside = await streams.send("asleep.t", BODY, headers=KEY)
    assert (beside.status_code, beside.json()["type"]) == (409, "/problems/idempotency-key-running")
    assert beside.headers["retry-after"]
    await end_lease(admin, streams.tenant)
    after = await streams.send("asleep.t", BODY, headers=KEY)
    assert (after.status_code, "idempotency-replayed" in after.headers) == (202, False), after.text
    wake()  # and now the first one would commit
    with pytest.raises(Unacknowledged):
        await task
    await streams.send("asleep.t", b'{"id": 4}')
    await streams.has("asleep.t", [1, 2, 3, 4])


async def test_rows_that_arrived_unrecorded_are_found_by_the_repeat(
    streams: Any, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await streams.send("found.t", b'{"id": 1}')).status_code == 202

    async def away(*_: Any) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(Repeats, "_complete", away)
        first = await streams.send("found.t", BODY, headers=KEY)
    assert first.status_code == 202
    await end_lease(admin, streams.tenant)
    again = await streams.send("found.t", BODY, headers=KEY)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true"), again.text
    assert again.json()["offsets"] == first.json()["offsets"]
    await streams.has("found.t", [1, 2, 3])


async def test_keys_are_forgotten_when_their_time_is_over(streams: Any, admin: asyncpg.Connection) -> None:
    assert (await streams.send("old.t", b'{"id": 1}', headers=KEY)).status_code == 202
    await admin.execute("UPDATE ingest.stream_requests SET expires_at = now() WHERE tenant = $1", streams.tenant)
    assert (await streams.send("old.t", b'{"id": 2}', headers=KEY)).status_code == 202
    await streams.has("old.t", [1, 2])

    async def pruned() -> bool:
        await admin.execute("UPDATE ingest.stream_requests SET expires_at = now() WHERE tenant = $1", streams.tenant)
        await admin.execute("SELECT ingest.prune_stream_requests(500)")
        left = await admin.fetchval("SELECT count(*) FROM ingest.stream_requests WHERE tenant = $1", streams.tenant)
        return bool(left == 0)

    await eventually(pruned)
