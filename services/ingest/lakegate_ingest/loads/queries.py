"""The SQL of loads. Every function runs in the caller's transaction; those on leases need no tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from lakegate_contracts.names import TableName
from lakegate_contracts.receipts import LoadState, Receipt
from lakegate_ingest.loads.schemas import Intent, LoadOptions, Progress, StoredFile

COLUMNS = """load_id, tenant, namespace, table_name, state, options, subject, delegation, request_id, trace_id,
    traceparent, run_id, fingerprint, files, received_bytes, attempts, intent, receipt, problem,
    created_at, started_at, finished_at, cancelled_at,
    (SELECT progress FROM leases WHERE leases.load_id = loads.load_id) AS progress"""
ENDED = (LoadState.COMPLETED, LoadState.FAILED)


@dataclass(frozen=True)
class LoadRow:
    load_id: UUID
    tenant: str
    table: TableName
    state: LoadState
    options: LoadOptions
    subject: str
    delegation: str | None
    request_id: str
    trace_id: str
    traceparent: str
    run_id: UUID
    fingerprint: str | None
    files: tuple[StoredFile, ...]
    received_bytes: int
    attempts: int
    intent: Intent | None
    receipt: Receipt | None
    problem: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancelled_at: datetime | None
    # of another process that runs it
    progress: Progress | None


def _row(record: Any) -> LoadRow:
    return LoadRow(
        load_id=record["load_id"],
        tenant=record["tenant"],
        table=TableName(record["namespace"], record["table_name"]),
        state=LoadState(record["state"]),
        options=LoadOptions.model_validate(record["options"]),
        subject=record["subject"],
        delegation=record["delegation"],
        request_id=record["request_id"],
        trace_id=record["trace_id"],
        traceparent=record["traceparent"],
        run_id=record["run_id"],
        fingerprint=record["fingerprint"],
        files=tuple(StoredFile.model_validate(file) for file in record["files"]),
        received_bytes=record["received_bytes"],
        attempts=record["attempts"],
        intent=Intent.model_validate(record["intent"]) if record["intent"] else None,
        receipt=Receipt.model_validate(record["receipt"]) if record["receipt"] else None,
        problem=record["problem"],
        created_at=record["created_at"],
        started_at=record["started_at"],
        finished_at=record["finished_at"],
        cancelled_at=record["cancelled_at"],
        progress=Progress.model_validate(record["progress"]) if record["progress"] else None,
    )


@dataclass(frozen=True)
class NewLoad:
    load_id: UUID
    tenant: str
    table: TableName
    options: LoadOptions
    subject: str
    delegation: str
    request_id: str
    trace_id: str
    traceparent: str
    run_id: UUID


async def insert_load(connection: Any, load: NewLoad, owner: str) -> None:
    """The load and its lease; the lease is what recovery finds when this process dies."""
    await connection.execute(
        """INSERT INTO loads (load_id, tenant, namespace, table_name, state, options, subject, delegation,
                              request_id, trace_id, traceparent, run_id)
           VALUES ($1, $2, $3, $4, 'receiving', $5, $6, $7, $8, $9, $10, $11)""",
        load.load_id, load.tenant, load.table.namespace, load.table.name, load.options.model_dump(mode="json"),
        load.subject, load.delegation, load.request_id, load.trace_id, load.traceparent, load.run_id,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO leases (load_id, tenant, owner) VALUES ($1, $2, $3)", load.load_id, load.tenant, owner
    )


async def get_load(connection: Any, load_id: UUID, *, lock: bool = False) -> LoadRow | None:
    suffix = " FOR UPDATE" if lock else ""
    record = await connection.fetchrow(f"SELECT {COLUMNS} FROM loads WHERE load_id = $1{suffix}", load_id)
    return _row(record) if record else None


async def list_loads(
    connection: Any, *, table: TableName | None, state: str | None, before: tuple[datetime, UUID] | None, limit: int
) -> list[LoadRow]:
    """Newest first; `before` is the last one of the page before."""
    records = await connection.fetch(
        f"""SELECT {COLUMNS} FROM loads
            WHERE ($1::text IS NULL OR (namespace = $1 AND table_name = $2))
              AND ($3::text IS NULL OR state = $3)
              AND ($4::timestamptz IS NULL OR (created_at, load_id) < ($4, $5::uuid))
            ORDER BY created_at DESC, load_id DESC LIMIT $6""",
        table.namespace if table else None, table.name if table else None, state,
        before[0] if before else None, before[1] if before else None, limit,
    )  # fmt: skip
    return [_row(record) for record in records]


async def set_received(
    connection: Any, load_id: UUID, *, files: list[StoredFile], fingerprint: str, received_bytes: int
) -> None:
    await connection.execute(
        """UPDATE loads SET state = 'queued', files = $2, fingerprint = $3, received_bytes = $4
           WHERE load_id = $1 AND state = 'receiving'""",
        load_id, [file.model_dump() for file in files], fingerprint, received_bytes,
    )  # fmt: skip


async def set_reading(connection: Any, load_id: UUID, owner: str) -> LoadRow | None:
    """Begin an attempt; None when the load has ended or is no longer this owner's."""
    record = await connection.fetchrow(
        f"""UPDATE loads SET state = CASE WHEN state = 'committing' THEN state ELSE 'reading' END,
                   attempts = attempts + 1, started_at = coalesce(started_at, now())
            WHERE load_id = $1 AND state IN ('queued', 'reading', 'committing')
              AND EXISTS (SELECT FROM leases WHERE load_id = $1 AND owner = $2)
            RETURNING {COLUMNS}""",
        load_id, owner,
    )  # fmt: skip
    return _row(record) if record else None


async def give_back_attempt(connection: Any, load_id: UUID) -> None:
    await connection.execute("UPDATE loads SET attempts = greatest(attempts - 1, 0) WHERE load_id = $1", load_id)


async def set_intent(connection: Any, load_id: UUID, owner: str, intent: Intent) -> bool:
    """Store what is about to be done; False when the load is no longer this owner's, or was called off."""
    result = await connection.execute(
        """UPDATE loads SET state = 'committing', intent = $3
           WHERE load_id = $1 AND state IN ('reading', 'committing') AND cancelled_at IS NULL
             AND EXISTS (SELECT FROM leases WHERE load_id = $1 AND owner = $2)""",
        load_id, owner, intent.model_dump(mode="json"),
    )  # fmt: skip
    return bool(result == "UPDATE 1")


async def set_rereading(connection: Any, load_id: UUID, owner: str) -> bool:
    """Back to reading, after the table's schema moved under a commit. False when it is no longer this owner's."""
    result = await connection.execute(
        """UPDATE loads SET state = 'reading', intent = NULL
           WHERE load_id = $1 AND state = 'committing'
             AND EXISTS (SELECT FROM leases WHERE load_id = $1 AND owner = $2)""",
        load_id, owner,
    )  # fmt: skip
    return bool(result == "UPDATE 1")


async def set_completed(connection: Any, load_id: UUID, receipt: Receipt) -> bool:
    """End the load well, once: False when it had ended before. The delegation is a credential and goes."""
    result = await connection.execute(
        """UPDATE loads SET state = 'completed', receipt = $2, delegation = NULL, finished_at = $3
           WHERE load_id = $1 AND state NOT IN ('completed', 'failed')""",
        load_id, receipt.model_dump(mode="json"), receipt.completed_at,
    )  # fmt: skip
    await _end(connection, load_id)
    return bool(result == "UPDATE 1")


async def set_failed(connection: Any, load_id: UUID, problem: dict[str, Any], failed_at: datetime) -> bool:
    """End the load with a problem, once: False when it had ended before. A load that fails frees its key."""
    result = await connection.execute(
        """UPDATE loads SET state = 'failed', problem = $2, finished_at = $3,
                  delegation = CASE WHEN intent IS NULL THEN NULL ELSE delegation END
           WHERE load_id = $1 AND state NOT IN ('completed', 'failed')""",
        load_id, problem, failed_at,
    )  # fmt: skip
    await _end(connection, load_id)
    return bool(result == "UPDATE 1")


async def _end(connection: Any, load_id: UUID) -> None:
    await connection.execute("DELETE FROM leases WHERE load_id = $1", load_id)


async def add_quarantine_files(connection: Any, load_id: UUID, tenant: str, files: list[tuple[str, int]]) -> None:
    """(url, records) in the order of the files."""
    await connection.executemany(
        "INSERT INTO quarantine_files (load_id, seq, tenant, url, records) VALUES ($1, $2, $3, $4, $5)",
        [(load_id, seq, tenant, url, records) for seq, (url, records) in enumerate(files)],
    )


async def quarantine_sizes(connection: Any, load_id: UUID) -> list[tuple[str, int]]:
    """(url, records) of each file, in order."""
    records = await connection.fetch(
        "SELECT url, records FROM quarantine_files WHERE load_id = $1 ORDER BY seq", load_id
    )
    return [(record["url"], record["records"]) for record in records]


async def quarantine_files(connection: Any, load_id: UUID) -> list[tuple[int, str]]:
    records = await connection.fetch("SELECT seq, url FROM quarantine_files WHERE load_id = $1 ORDER BY seq", load_id)
    return [(record["seq"], record["url"]) for record in records]


async def add_cleanup(connection: Any, load_id: UUID, tenant: str, delay_seconds: float) -> None:
    """Have the files of a failed load's intent deleted, once no late answer can make them part of a snapshot."""
    await connection.execute(
        """INSERT INTO cleanups (load_id, tenant, due_at) VALUES ($1, $2, now() + make_interval(secs => $3))
           ON CONFLICT (load_id) DO NOTHING""",
        load_id, tenant, delay_seconds,
    )  # fmt: skip


async def due_cleanups(connection: Any, limit: int) -> list[tuple[UUID, str]]:
    """(load id, tenant), put off by an hour as they are taken so that one that fails does not block the rest."""
    records = await connection.fetch(
        """UPDATE cleanups SET due_at = now() + interval '1 hour'
           WHERE load_id IN (SELECT load_id FROM cleanups WHERE due_at < now()
                             ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
           RETURNING load_id, tenant""",
        limit,
    )
    return [(record["load_id"], record["tenant"]) for record in records]


async def end_cleanup(connection: Any, load_id: UUID) -> None:
    await connection.execute("UPDATE loads SET delegation = NULL WHERE load_id = $1", load_id)
    await connection.execute("DELETE FROM cleanups WHERE load_id = $1", load_id)


async def beat(connection: Any, owner: str) -> list[UUID]:
    """Renew the leases of an owner; returns those of its loads that were called off."""
    records = await connection.fetch(
        "UPDATE leases SET heartbeat_at = now() WHERE owner = $1 RETURNING load_id, cancelled", owner
    )
    return [record["load_id"] for record in records if record["cancelled"]]


async def call_off(connection: Any, load_id: UUID) -> bool:
    """Have its owner end the load. False when it is too late: it commits, or has ended."""
    called_off = await connection.fetchval(
        """WITH called_off AS (UPDATE loads SET cancelled_at = coalesce(cancelled_at, now())
                               WHERE load_id = $1 AND state IN ('receiving', 'queued', 'reading')
                               RETURNING load_id),
                told AS (UPDATE leases SET cancelled = true WHERE load_id IN (SELECT load_id FROM called_off))
           SELECT count(*) FROM called_off""",
        load_id,
    )
    return bool(called_off)


async def take_stale_leases(connection: Any, owner: str, lease_seconds: float) -> list[tuple[UUID, str]]:
    """Take over the loads of owners that stopped beating: (load id, tenant)."""
    records = await connection.fetch(
        """UPDATE leases SET owner = $1, heartbeat_at = now(), offered = false
           WHERE load_id IN (SELECT load_id FROM leases
                             WHERE owner <> $1 AND heartbeat_at < now() - make_interval(secs => $2)
                             ORDER BY heartbeat_at LIMIT 100 FOR UPDATE SKIP LOCKED)
           RETURNING load_id, tenant""",
        owner, lease_seconds,
    )  # fmt: skip
    return [(record["load_id"], record["tenant"]) for record in records]


async def take_leases_of(connection: Any, owner: str, former: str) -> list[tuple[UUID, str]]:
    """Take over at once from a process that is known to be dead."""
    records = await connection.fetch(
        """UPDATE leases SET owner = $1, heartbeat_at = now(), offered = false WHERE owner = $2
           RETURNING load_id, tenant""",
        owner, former,
    )  # fmt: skip
    return [(record["load_id"], record["tenant"]) for record in records]


async def leases_of(connection: Any, owner: str) -> list[tuple[UUID, str]]:
    """(load id, tenant) of every load that this owner has not ended."""
    records = await connection.fetch("SELECT load_id, tenant FROM leases WHERE owner = $1", owner)
    return [(record["load_id"], record["tenant"]) for record in records]


async def is_owner(connection: Any, load_id: UUID, owner: str) -> bool:
    found = await connection.fetchval("SELECT TRUE FROM leases WHERE load_id = $1 AND owner = $2", load_id, owner)
    return found is not None


async def leased(connection: Any, load_ids: list[UUID]) -> set[UUID]:
    records = await connection.fetch("SELECT load_id FROM leases WHERE load_id = ANY($1)", load_ids)
    return {record["load_id"] for record in records}


async def drop_lease(connection: Any, load_id: UUID) -> None:
    await _end(connection, load_id)


async def release_leases(connection: Any, owner: str) -> None:
    """Let whoever looks next take these loads over at once: this process is going away."""
    await connection.execute("UPDATE leases SET heartbeat_at = 'epoch' WHERE owner = $1", owner)


async def old_loads(connection: Any, keep: timedelta, limit: int) -> list[tuple[UUID, str]]:
    """Id and tenant of loads, of all tenants, that ended so long ago and have nothing left to clean up."""
    records = await connection.fetch("SELECT load_id, tenant FROM old_loads($1, $2)", keep, limit)
    return [(record["load_id"], record["tenant"]) for record in records]


async def forget_load(connection: Any, load_id: UUID) -> None:
    """With its index of quarantine files."""
    await connection.execute("DELETE FROM loads WHERE load_id = $1", load_id)


async def prune_idempotency_keys(connection: Any, limit: int) -> int:
    """Delete expired keys of all tenants, at most `limit`; returns how many."""
    pruned: int = await connection.fetchval("SELECT prune_idempotency_keys($1)", limit)
    return pruned
