"""Idempotency-Key of streams: a request and its repeats add their rows once, whatever died in between.

The key's row says who works on it, and by which Kafka transaction. A repeat of a request that was cut off first makes
sure that the other one can do nothing more, then looks whether the rows are there; only then it sends them.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from lakegate_chassis import context
from lakegate_chassis.logs import log
from lakegate_chassis.postgres import connection as acquire
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Problem
from lakegate_contracts.names import TableName
from lakegate_ingest.errors import IdempotencyKeyReused, IdempotencyKeyRunning, Unacknowledged
from lakegate_ingest.metrics import PRUNED
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.producer import Placed, Record
from lakegate_ingest.streams.requests import Producing
from lakegate_ingest.streams.schemas import Accepted, Offsets
from lakegate_ingest.streams.transactions import Fenced, Transactions

RETRY_AFTER_SECONDS = 2
PRUNED_AT_ONCE = 500
PRUNE_SECONDS = 3600.0
# A producer that stood idle may have been fenced for a request of long ago; the places may all have such ones.
MOST_FENCED = 8
_KEY = "namespace = $1 AND table_name = $2 AND key = $3"


@dataclass(frozen=True)
class Claim:
    """`replay` is the answer of the request that had this key first."""

    key: str
    request_id: UUID
    attempt: UUID
    replay: Accepted | None = None


class Repeats:
    """`lease_seconds`: as long as a request may take; then the next one with its key takes over."""

    def __init__(self, pool: asyncpg.Pool, transactions: Transactions, *, lease_seconds: float, hours: int) -> None:
        self._pool = pool
        self._transactions = transactions
        self._lease_seconds = lease_seconds
        self._hours = hours

    @asynccontextmanager
    async def claim(self, wanted: Producing, key: str, body: bytes) -> AsyncIterator[Claim]:
        """Hold the key. What is raised within gives it back, unless rows were sent: then the next repeat finds out.

        Raises IdempotencyKeyRunning, IdempotencyKeyReused, Unacknowledged.
        """
        found = await self._claim(wanted, key, _digest(wanted, body))
        try:
            yield found
        except BaseException:
            if found.replay is None:
                await self._let_go(wanted, found)
            raise

    async def send(self, wanted: Producing, claim: Claim, topic: str, records: Sequence[Record]) -> Accepted:
        """Raises Unacknowledged, StreamBusy, IdempotencyKeyRunning."""
        for _ in range(MOST_FENCED):
            try:
                placed = await self._send(wanted, claim, topic, records)
                break
            except Fenced:
                log.info("stream_producer_fenced", topic=topic)
        else:
            raise Unacknowledged("Other requests were settled at the same time. Send it again with the same key.")
        accepted = acceptance(wanted.table, topic, placed)
        try:
            await self._complete(wanted, claim, accepted)
        except Problem as problem:
            # the rows are there, and the next repeat finds them
            log.warning("stream_request_not_recorded", topic=topic, reason=problem.detail)
        return accepted

    async def _send(self, wanted: Producing, claim: Claim, topic: str, records: Sequence[Record]) -> list[Placed]:
        async with self._transactions.slot() as slot:
            partition = await self._transactions.partition(slot, topic)
            async with tenant_transaction(self._pool, wanted.principal.tenant) as connection:
                held = await connection.fetchval(
                    f"""UPDATE stream_requests SET transactional_id = $5, partition = $6, started_at = now(),
                            lease_until = now() + make_interval(secs => $7)
                        WHERE {_KEY} AND attempt = $4 AND accepted IS NULL RETURNING true""",
                    *_names(wanted.table, claim.key), claim.attempt, slot.transactional_id, partition,
                    self._lease_seconds,
                )  # fmt: skip
            if not held:
                raise _running()
            return await self._transactions.send(slot, topic, partition, records, claim.request_id)

    async def keep_pruning(self) -> None:
        """Forget keys whose time is over, of all tenants; until cancelled."""
        while True:
            async with acquire(self._pool) as connection:
                pruned = await connection.fetchval("SELECT prune_stream_requests($1)", PRUNED_AT_ONCE)
            PRUNED.labels("stream requests").inc(pruned)
            if pruned < PRUNED_AT_ONCE:
                await asyncio.sleep(PRUNE_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def _claim(self, wanted: Producing, key: str, digest: bytes) -> Claim:
        tenant, table = wanted.principal.tenant, wanted.table
        mine = Claim(key, uuid4(), uuid4())
        async with tenant_transaction(self._pool, tenant) as connection:
            await connection.execute(
                f"DELETE FROM stream_requests WHERE {_KEY} AND expires_at < now()", *_names(table, key)
            )
            made = await connection.fetchval(
                """INSERT INTO stream_requests (tenant, namespace, table_name, key, request_id, attempt, digest,
                       lease_until, expires_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8),
                       now() + make_interval(hours => $9))
                   ON CONFLICT DO NOTHING RETURNING true""",
                tenant, table.namespace, table.name, key, mine.request_id, mine.attempt, digest, self._lease_seconds,
                self._hours,
            )  # fmt: skip
            if made:
                return mine
            row = await connection.fetchrow(
                f"""SELECT request_id, digest, transactional_id, partition, accepted, started_at,
                        lease_until > now() AS running
                    FROM stream_requests WHERE {_KEY} FOR UPDATE""",
                *_names(table, key),
            )
            if row is None:
                raise _running()  # given back this moment
            if row["digest"] != digest:
                raise IdempotencyKeyReused(
                    "This key belongs to a request to this stream with another body or options. Other rows need "
                    "another key."
                )
            if row["accepted"] is not None:
                return Claim(key, row["request_id"], mine.attempt, Accepted.model_validate_json(row["accepted"]))
            if row["running"]:
                raise _running()
            await connection.execute(
                f"""UPDATE stream_requests SET attempt = $4, lease_until = now() + make_interval(secs => $5)
                    WHERE {_KEY}""",
                *_names(table, key), mine.attempt, self._lease_seconds,
            )  # fmt: skip
        taken = Claim(key, row["request_id"], mine.attempt)
        try:
            return await self._settle(wanted, taken, row)
        except BaseException:
            await self._let_go(wanted, taken)
            raise

    async def _settle(self, wanted: Producing, claim: Claim, row: Any) -> Claim:
        """Whether the request that was cut off has sent its rows."""
        if row["transactional_id"] is None:
            return claim
        tenant = wanted.principal.tenant
        async with tenant_transaction(self._pool, tenant) as connection:
            topic = await queries.topic(connection, tenant, wanted.table)
        await self._transactions.fence(row["transactional_id"])
        started_at: datetime = row["started_at"]
        placed = await self._transactions.find(topic, row["partition"], claim.request_id, started_at)
        log.info("stream_request_settled", topic=topic, found=bool(placed))
        if not placed:
            return claim
        accepted = acceptance(wanted.table, topic, placed)
        await self._complete(wanted, claim, accepted)
        return Claim(claim.key, claim.request_id, claim.attempt, accepted)

    async def _complete(self, wanted: Producing, claim: Claim, accepted: Accepted) -> None:
        async with tenant_transaction(self._pool, wanted.principal.tenant) as connection:
            await connection.execute(
                f"UPDATE stream_requests SET accepted = $5 WHERE {_KEY} AND request_id = $4",
                *_names(wanted.table, claim.key), claim.request_id, accepted.model_dump_json(),
            )  # fmt: skip

    async def _let_go(self, wanted: Producing, claim: Claim) -> None:
        """Nothing was sent: the key is as it was. Else: whoever comes next need not wait for the lease."""
        names = _names(wanted.table, claim.key)
        try:
            async with tenant_transaction(self._pool, wanted.principal.tenant) as connection:
                await connection.execute(
                    f"DELETE FROM stream_requests WHERE {_KEY} AND attempt = $4 AND transactional_id IS NULL",
                    *names, claim.attempt,
                )  # fmt: skip
                await connection.execute(
                    f"UPDATE stream_requests SET lease_until = now() WHERE {_KEY} AND attempt = $4",
                    *names, claim.attempt,
                )  # fmt: skip
        except Problem as problem:
            log.warning("stream_request_not_let_go", reason=problem.detail)  # the lease ends by itself


def acceptance(table: TableName, topic: str, placed: Sequence[Placed]) -> Accepted:
    """The answer: where the rows are."""
    info = context.current()
    return Accepted(
        table=str(table),
        topic=topic,
        rows=sum(part.rows for part in placed),
        offsets=tuple(
            Offsets(partition=part.partition, first=part.offset, last=part.offset + part.rows - 1) for part in placed
        ),
        request_id=info.request_id,
        trace_id=info.trace_id,
    )


def _digest(wanted: Producing, body: bytes) -> bytes:
    options = f"{wanted.on_new_column} {wanted.on_bad_row}\n".encode()
    return hashlib.sha256(options + body).digest()


def _names(table: TableName, key: str) -> tuple[str, str, str]:
    return table.namespace, table.name, key


def _running() -> IdempotencyKeyRunning:
    return IdempotencyKeyRunning(
        "The first request with this key has not ended. Ask again shortly.",
        headers={"retry-after": str(RETRY_AFTER_SECONDS)},
    )
