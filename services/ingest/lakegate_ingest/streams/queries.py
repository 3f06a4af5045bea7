"""The SQL of streams. Functions with a tenant's rows run in that tenant's transaction; the others hold ids only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from lakegate_contracts.names import TableName
from lakegate_ingest.streams.topics import topic_of

_COLUMNS = """tenant, namespace, table_name, topic, on_new_column, subject, delegation, delegated_at, failure, run_id,
    committed_at, created_at, accepted_topic_id"""


@dataclass(frozen=True)
class StreamRow:
    """A stream. `delegation` is what the worker commits with; `failure` a problem that it can't get past alone."""

    tenant: str
    table: TableName
    topic: str
    on_new_column: str
    subject: str
    delegation: str
    delegated_at: datetime
    failure: dict[str, Any] | None
    run_id: UUID | None
    committed_at: datetime | None
    created_at: datetime
    accepted_topic_id: str | None = None


def _row(record: asyncpg.Record) -> StreamRow:
    return StreamRow(
        tenant=record["tenant"],
        table=TableName(record["namespace"], record["table_name"]),
        topic=record["topic"],
        on_new_column=record["on_new_column"],
        subject=record["subject"],
        delegation=record["delegation"],
        delegated_at=record["delegated_at"],
        failure=record["failure"],
        run_id=record["run_id"],
        committed_at=record["committed_at"],
        created_at=record["created_at"],
        accepted_topic_id=record["accepted_topic_id"],
    )


async def put_stream(
    connection: Any,
    *,
    tenant: str,
    table: TableName,
    topic: str,
    on_new_column: str | None,
    subject: str,
    grant: str,
    accepted_topic_id: str | None = None,
) -> StreamRow:
    """Make the stream, or give the one that is there a fresh delegation (and what else is given)."""
    record = await connection.fetchrow(
        f"""
        INSERT INTO streams (
            tenant, namespace, table_name, topic, on_new_column, subject, delegation, accepted_topic_id)
        VALUES ($1, $2, $3, $4, coalesce($5, 'evolve'), $6, $7, $8)
        ON CONFLICT (tenant, namespace, table_name) DO UPDATE SET
            on_new_column = coalesce($5, streams.on_new_column),
            accepted_topic_id = coalesce($8, streams.accepted_topic_id),
            subject = excluded.subject, delegation = excluded.delegation, delegated_at = now()
        RETURNING {_COLUMNS}""",
        tenant,
        table.namespace,
        table.name,
        topic,
        on_new_column,
        subject,
        grant,
        accepted_topic_id,
    )
    await connection.execute(
        """
        INSERT INTO stream_topics (topic, tenant, namespace, table_name) VALUES ($1, $2, $3, $4)
        ON CONFLICT (topic) DO NOTHING""",
        record["topic"],
        tenant,
        table.namespace,
        table.name,
    )
    return _row(record)


async def get_stream(connection: Any, table: TableName) -> StreamRow | None:
    record = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM streams WHERE namespace = $1 AND table_name = $2", table.namespace, table.name
    )
    return _row(record) if record else None


async def topic(connection: Any, tenant: str, table: TableName) -> str:
    """Of the stream that is there: it keeps the name that it was made with. Else of the one that would be made.

    Raises BadTableName.
    """
    found: str | None = await connection.fetchval(
        "SELECT topic FROM streams WHERE namespace = $1 AND table_name = $2", table.namespace, table.name
    )
    return found or topic_of(tenant, table)


async def delete_stream(connection: Any, table: TableName, topic: str) -> bool:
    """With its schemas and keys; whether there was one. Commits under way are the sweep's."""
    gone = await connection.fetchval(
        "DELETE FROM streams WHERE namespace = $1 AND table_name = $2 RETURNING true", table.namespace, table.name
    )
    await connection.execute("DELETE FROM stream_topics WHERE topic = $1", topic)
    await connection.execute("DELETE FROM stream_schemas WHERE topic = $1", topic)
    await connection.execute(
        "DELETE FROM stream_requests WHERE namespace = $1 AND table_name = $2", table.namespace, table.name
    )
    return bool(gone)


async def list_streams(connection: Any, *, after: str, limit: int) -> list[StreamRow]:
    """By topic, those after `after`."""
    records = await connection.fetch(
        f"SELECT {_COLUMNS} FROM streams WHERE topic > $1 ORDER BY topic LIMIT $2", after, limit
    )
    return [_row(record) for record in records]


async def topics(connection: Any) -> dict[str, tuple[str, TableName]]:
    """Tenant and table of every topic."""
    records = await connection.fetch("SELECT topic, tenant, namespace, table_name FROM stream_topics")
    return {row["topic"]: (row["tenant"], TableName(row["namespace"], row["table_name"])) for row in records}


async def renew(connection: Any, topic: str, former: str, grant: str) -> None:
    """Replace a delegation by its successor, unless a request has brought another meanwhile."""
    await connection.execute(
        "UPDATE streams SET delegation = $3, delegated_at = now() WHERE topic = $1 AND delegation = $2",
        topic,
        former,
        grant,
    )


async def set_failure(connection: Any, topic: str, failure: dict[str, Any] | None) -> None:
    await connection.execute(
        "UPDATE streams SET failure = $2 WHERE topic = $1 AND failure IS DISTINCT FROM $2", topic, failure
    )


async def claim_run(connection: Any, topic: str, run_id: UUID, every_seconds: float) -> tuple[UUID, bool] | None:
    """The run to tell of and whether it begins now; None when it was told of less than `every_seconds` ago."""
    record = await connection.fetchrow(
        """
        UPDATE streams SET run_id = coalesce(run_id, $2), run_told_at = now(), committed_at = now()
        WHERE topic = $1 AND (run_id IS NULL OR run_told_at < now() - make_interval(secs => $3))
        RETURNING run_id""",
        topic,
        run_id,
        every_seconds,
    )
    if record is None:
        await connection.execute("UPDATE streams SET committed_at = now() WHERE topic = $1", topic)
        return None
    return record["run_id"], record["run_id"] == run_id


async def end_run(connection: Any, topic: str, idle_seconds: float) -> UUID | None:
    """End the stream's run when nothing was committed for so long; its id, once."""
    found: UUID | None = await connection.fetchval(
        """
        UPDATE streams SET run_id = NULL, run_told_at = NULL
        FROM (SELECT topic, run_id FROM streams WHERE topic = $1 FOR UPDATE) AS former
        WHERE streams.topic = former.topic AND former.run_id IS NOT NULL
            AND committed_at < now() - make_interval(secs => $2)
        RETURNING former.run_id""",
        topic,
        idle_seconds,
    )
    return found


async def add_schema(
    connection: Any, *, tenant: str, topic: str, digest: bytes, schema: Any, subject: str
) -> tuple[int, bool]:
    """The schema's id, and whether it is new."""
    made = await connection.fetchval(
        """
        INSERT INTO stream_schemas (tenant, topic, digest, schema, subject) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant, topic, digest) DO NOTHING RETURNING schema_id""",
        tenant,
        topic,
        digest,
        schema,
        subject,
    )
    if made is not None:
        return int(made), True
    known = await connection.fetchval(
        "SELECT schema_id FROM stream_schemas WHERE topic = $1 AND digest = $2", topic, digest
    )
    return int(known), False


async def get_schema(connection: Any, topic: str, schema_id: int) -> Any | None:
    return await connection.fetchval(
        "SELECT schema FROM stream_schemas WHERE topic = $1 AND schema_id = $2", topic, schema_id
    )


@dataclass(frozen=True)
class CommitRow:
    """A commit that was begun: the files it put into the warehouse, and the offsets at which its rows begin."""

    commit_id: UUID
    topic: str
    snapshot_id: int
    starts: dict[str, int]
    location: str
    urls: list[str]


async def begin_commit(connection: Any, row: CommitRow) -> None:
    await connection.execute(
        """
        INSERT INTO stream_commits (commit_id, topic, snapshot_id, starts, location, urls)
        VALUES ($1, $2, $3, $4, $5, $6)""",
        row.commit_id,
        row.topic,
        row.snapshot_id,
        row.starts,
        row.location,
        row.urls,
    )


async def end_commit(connection: Any, commit_id: UUID) -> None:
    await connection.execute("DELETE FROM stream_commits WHERE commit_id = $1", commit_id)


async def forget_commits(connection: Any, age_seconds: float) -> int:
    """Those of streams that were deleted: nobody commits there, and nobody is left in whose name to look."""
    found: int = await connection.fetchval(
        """
        WITH gone AS (
            DELETE FROM stream_commits WHERE created_at < now() - make_interval(secs => $1)
                AND topic NOT IN (SELECT topic FROM stream_topics)
            RETURNING 1)
        SELECT count(*) FROM gone""",
        age_seconds,
    )
    return found


async def old_commits(connection: Any, age_seconds: float, limit: int) -> list[CommitRow]:
    """Those that were looked at longest ago: the ones that can't be settled must not hold back the others."""
    records = await connection.fetch(
        """
        UPDATE stream_commits SET tried_at = now() WHERE commit_id IN (
            SELECT commit_id FROM stream_commits WHERE created_at < now() - make_interval(secs => $1)
            ORDER BY tried_at LIMIT $2 FOR UPDATE SKIP LOCKED)
        RETURNING commit_id, topic, snapshot_id, starts, location, urls""",
        age_seconds,
        limit,
    )
    return [CommitRow(**dict(record)) for record in records]
