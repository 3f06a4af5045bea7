"""Commits that come to nothing leave nothing, and those that died are all looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from lakegate_chassis.http import upstream_client
from lakegate_chassis.postgres import connection as acquire
from lakegate_chassis.postgres import open_pool
from lakegate_contracts.identity import Principal
from lakegate_contracts.names import TableName
from lakegate_ingest.commit.catalog import Catalog
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.engine import DataFile
from lakegate_ingest.errors import SchemaConflict
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.backlog import Backlog
from lakegate_ingest.streams.commits import Span, StreamCommitter, Superseded
from lakegate_ingest.streams.queries import CommitRow
from lakegate_ingest.streams.sweeping import Sweep


@pytest.fixture
async def pool(settings: Any, catalog: Any, spool: Path) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(settings(catalog.url, spool).postgres, "ingest")
    yield opened
    await opened.close()


@pytest.fixture
async def committer(settings: Any, catalog: Any, spool: Path, pool: asyncpg.Pool) -> AsyncIterator[StreamCommitter]:
    made = settings(catalog.url, spool)
    client = upstream_client("catalog", made.catalog_url)
    exchange = TokenExchange(client, made.token_exchange_url)
    warehouse = Warehouse(made.quarantine.location, made.objects)
    yield StreamCommitter(Catalog(client, exchange, timeout_seconds=30), pool, made.commit, warehouse)
    await client.aclose()


class Work:
    """One row for a table that is there, and the span it is of."""

    def __init__(self, span: Span, schema: Any, file: DataFile) -> None:
        self.span, self.schema, self.files = span, schema, (file,)


@pytest.fixture
async def work(streams_at: Any, producing_url: str, identity: Any, committer: StreamCommitter, tmp_path: Path) -> Any:
    """work(table, at): offsets 5 to 6 of partition 0, whose one row has this time in microseconds."""

    async def make(table: str, at: int = 0) -> Work:
        streams = streams_at(producing_url)
        first = {"id": 1, "at": datetime(2026, 1, 1, tzinfo=UTC).isoformat()}
        answer = await streams.api.client.post(streams.path(table), json=first)
        assert answer.status_code == 202, answer.text
        namespace, _, name = table.rpartition(".")
        principal = Principal(tenant=streams.tenant, subject="ana", scopes=("loads:write",))
        delegation = identity.delegation(principal)
        metadata = (await committer.load(streams.tenant, TableName(namespace, name), delegation)).metadata
        path = tmp_path / "row.parquet"
        columns = {"id": pa.array([2], pa.int64()), "at": pa.array([at], pa.timestamp("us", tz="UTC"))}
        pq.write_table(pa.table(columns).cast(schema_to_pyarrow(metadata.schema())), path)
        span = Span(
            streams.tenant, TableName(namespace, name), answer.json()["topic"], delegation, metadata.table_uuid,
            {0: 5}, {0: 6}, "a topic's id", {},
        )  # fmt: skip
        return Work(span, metadata.schema(), DataFile(path, path.stat().st_size, 1))

    return make


async def left(pool: asyncpg.Pool, warehouse: Path, span: Span) -> tuple[int, int]:
    """Commits that are noted as under way, and data files of streams."""
    async with acquire(pool) as connection:
        noted = await connection.fetchval("SELECT count(*) FROM stream_commits WHERE topic = $1", span.topic)
    return noted, len(list((warehouse / span.tenant).rglob("data/streams/*.parquet")))


@pytest.mark.usefixtures("forgotten")
async def test_rows_that_another_worker_has_committed_are_not_committed_again_and_leave_no_file(
    committer: StreamCommitter, work: Any, pool: asyncpg.Pool, warehouse: Path
) -> None:
    mine = await work("late.t")
    done = await committer.commit(mine.span, mine.schema, mine.files)
    assert done.loaded.metadata.properties[f"lakegate.stream.{mine.span.topic}.0"] == "6"
    assert await left(pool, warehouse, mine.span) == (0, 1)
    another_topic = replace(mine.span, starts={0: 6}, ends={0: 7}, topic_id="another id")
    for span in (mine.span, replace(mine.span, table_uuid=uuid4()), another_topic):
        with pytest.raises(Superseded):
            await committer.commit(span, mine.schema, mine.files)
        assert await left(pool, warehouse, mine.span) == (0, 1)


async def test_a_value_that_no_statistics_can_hold_is_a_problem_of_this_table(
    committer: StreamCommitter, work: Any, pool: asyncpg.Pool, warehouse: Path
) -> None:
    far = await work("far.t", at=2**62)
    with pytest.raises(SchemaConflict):
        await committer.commit(far.span, far.schema, far.files)
    assert await left(pool, warehouse, far.span) == (0, 0)


async def test_commits_that_can_not_be_settled_do_not_hold_back_the_others(pool: asyncpg.Pool) -> None:
    topic = f"lakegate.stream.{uuid4().hex}"
    rows = [CommitRow(uuid4(), topic, number, {"0": 1}, "file:///nowhere", []) for number in range(7)]
    async with acquire(pool) as connection:
        for row in rows:
            await queries.begin_commit(connection, row)
        seen: set[int] = set()
        looks = 0
        while len(seen) < 7 and looks < 1000:
            looks += 1
            seen |= {row.snapshot_id for row in await queries.old_commits(connection, 0, 5) if row.topic == topic}
        assert seen == set(range(7))
        await connection.execute("DELETE FROM stream_commits WHERE topic = $1", topic)


async def test_commits_of_a_dropped_table_and_of_a_deleted_stream_are_forgotten(
    streams_at: Any, producing_url: str, committer: StreamCommitter, pool: asyncpg.Pool, settings: Any, spool: Path
) -> None:
    streams = streams_at(producing_url)
    topic = (await streams.send("swept.t", b'{"id": 1}')).json()["topic"]
    made = settings("http://nowhere", spool)
    sweep = Sweep(pool, committer, Warehouse(made.quarantine.location, made.objects), age_seconds=0)

    async def noted_after_a_sweep() -> int:
        async with acquire(pool) as connection:
            await queries.begin_commit(connection, CommitRow(uuid4(), topic, 1, {"0": 1}, "file:///nowhere/t", []))
        await sweep.once()
        async with acquire(pool) as connection:
            found: int = await connection.fetchval("SELECT count(*) FROM stream_commits WHERE topic = $1", topic)
            return found

    await streams.drop("swept.t")
    assert await noted_after_a_sweep() == 0
    assert (await streams.api.client.delete(streams.path("swept.t"))).status_code == 204
    assert await noted_after_a_sweep() == 0


class Record:
    def __init__(self, offset: int) -> None:
        self.offset, self.value, self.timestamp = offset, b"%d" % offset, 1000 * (offset + 1)


def test_what_is_too_much_at_once_is_committed_in_parts_and_in_order() -> None:
    backlog = Backlog("topic", frozenset({0, 1}))
    backlog.place({0: 10, 1: 20}, None, {})
    backlog.seek = None
    backlog.add(0, [Record(10), Record(12)], 13)
    backlog.add(1, [Record(20)], 21)
    batch = backlog.seal()
    backlog.add(1, [Record(21)], 24)
    backlog.add(0, [Record(13)], 14)
    held = backlog.size_bytes
    head = backlog.give_back(batch, 1)
    assert (head.values, head.starts, head.ends) == ([b"10"], {0: 10}, {0: 11})
    rest = backlog.current
    assert (rest.starts, rest.ends) == ({0: 11, 1: 20}, {0: 14, 1: 24})
    assert [*zip(rest.partitions, rest.offsets, strict=True)] == [(0, 12), (1, 20), (1, 21), (0, 13)]
    assert (backlog.size_bytes, backlog.urgent) == (held, True)
    backlog.done(head)
    assert (backlog.committed, backlog.seal()) == ({0: 11, 1: 20}, rest)
    # offsets 22 and 23 are marks of transactions: they are behind the last record, and done with it
    first, second = rest.split(3)
    assert (first.starts, first.ends) == ({0: 11, 1: 20}, {0: 13, 1: 24})
    assert (second.starts, second.ends) == ({0: 13}, {0: 14})


def test_records_from_before_our_place_are_not_taken_and_make_it_doubtful() -> None:
    backlog = Backlog("topic", frozenset({0}))
    backlog.place({0: 10}, "an id", {})
    backlog.seek = None
    backlog.add(0, [Record(10), Record(11)], 12)
    assert not backlog.displaced
    # the brokers have begun anew: their first record is number 0
    backlog.add(0, [Record(0), Record(1)], 2)
    assert (backlog.displaced, backlog.current.values, backlog.changed.is_set()) == (True, [b"10", b"11"], True)
    backlog.lose_place()
    backlog.place({0: 0}, "another id", {})
    assert not backlog.displaced
