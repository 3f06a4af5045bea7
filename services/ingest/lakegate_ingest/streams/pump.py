"""One stream's way into its table: find the place, wait for enough, set aside what is no row, commit, again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import asyncpg
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import KafkaError
from pyiceberg.table.metadata import TableMetadata

from lakegate_chassis.logs import log
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Problem, problem_body
from lakegate_contracts.names import TableName
from lakegate_ingest import engine
from lakegate_ingest.commit.catalog import NoSuchTable
from lakegate_ingest.commit.committer import SchemaMoved
from lakegate_ingest.errors import BadStreamSchema, StreamNotFound, StreamTopicRecreated, TableNotFound
from lakegate_ingest.loads.reading import engine_problem
from lakegate_ingest.metrics import (
    STREAM_COMMIT_SECONDS,
    STREAM_COMMITS,
    STREAM_DELAY,
    STREAM_EXPIRED,
    STREAM_RECREATED,
    STREAM_ROWS,
)
from lakegate_ingest.settings import StreamSettings
from lakegate_ingest.streams import queries, rejects
from lakegate_ingest.streams.avro import AvroReader
from lakegate_ingest.streams.backlog import Backlog, Batch
from lakegate_ingest.streams.commits import Done, Span, StreamCommitter, Superseded, check_place
from lakegate_ingest.streams.grants import Grants
from lakegate_ingest.streams.lineage import StreamLineage
from lakegate_ingest.streams.preparing import Prepared, prepare, schema_ids
from lakegate_ingest.streams.producer import StreamProducer
from lakegate_ingest.streams.queries import StreamRow
from lakegate_ingest.streams.requests import OnNewColumn
from lakegate_ingest.streams.scratch import Scratch
from lakegate_ingest.streams.topics import Progress, offset_property, progress

MOST_ROUNDS = 4
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
MOST_READERS = 100
# Rows that are read at once may be so many times the bytes of the records that make a commit due.
DECODED_TIMES = 2
PROGRESS_SECONDS = 5.0


class Pump:
    """Shared by the streams of one worker; `slots` bounds how many are read by the engine at once."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        committer: StreamCommitter,
        producer: StreamProducer,
        lineage: StreamLineage,
        grants: Grants,
        executor: Executor,
        scratch: Scratch,
        settings: StreamSettings,
        limits: engine.EngineLimits,
    ) -> None:
        self._pool = pool
        self._committer = committer
        self._producer = producer
        self._lineage = lineage
        self._grants = grants
        self._executor = executor
        self._scratch = scratch
        self._settings = settings
        self._limits = limits
        self._readers: dict[tuple[str, int], AvroReader] = {}

    async def run(self, tenant: str, table: TableName, backlog: Backlog, consumer: Any) -> None:
        """Until cancelled. A commit that is under way is not cut off: it ends, or the caller stops waiting."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            step = asyncio.create_task(self._step(tenant, table, backlog, consumer))
            try:
                await asyncio.shield(step)
                pause = FIRST_PAUSE_SECONDS
                continue
            except asyncio.CancelledError:
                if backlog.committing is None:
                    step.cancel()
                else:
                    await asyncio.wait([step])
                    step.exception()  # whoever goes on from here finds out by itself
                raise
            except Superseded as reason:
                STREAM_COMMITS.labels("superseded").inc()
                log.info("stream_superseded", topic=backlog.topic, reason=str(reason))
            except (Problem, OSError, KafkaError, asyncpg.PostgresError) as error:
                STREAM_COMMITS.labels("failed").inc()
                log.warning("stream_commit_failed", topic=backlog.topic, error=str(error) or type(error).__name__)
                await self._tell(tenant, backlog.topic, error)
                pause = await _back_off(pause)
            except Exception as error:  # noqa: BLE001 - what one stream's rows or table bring up must not end the others
                STREAM_COMMITS.labels("failed").inc()
                log.error("stream_failed", topic=backlog.topic, exc_info=error)
                await self._tell(
                    tenant, backlog.topic, ConnectionError("An unexpected error; the operator's log has it.")
                )
                pause = await _back_off(pause)
            backlog.lose_place()

    async def _step(self, tenant: str, table: TableName, backlog: Backlog, consumer: Any) -> None:
        if not backlog.placed:
            await self._find_place(tenant, table, backlog, consumer)
        await self._wait_until_due(tenant, table, backlog, consumer)
        batch = backlog.seal()
        stream = await self._stream(tenant, table)
        done, prepared, batch = await self._commit(stream, batch, backlog)
        backlog.done(batch)
        STREAM_COMMITS.labels("committed").inc()
        STREAM_ROWS.labels("committed").inc(prepared.read.rows_written)
        if batch.oldest is not None:
            STREAM_DELAY.observe(max(time.time() - batch.oldest, 0))
        log.info(
            "stream_committed", topic=backlog.topic, records=len(batch), rows=prepared.read.rows_written,
            rejected=len({reject.index for reject in prepared.rejects}), snapshot_id=done.snapshot_id,
        )  # fmt: skip
        await _store_progress(consumer, backlog)
        await self._tell(tenant, backlog.topic, None)
        await self._of_lineage(
            self._lineage.committed(tenant, table, backlog.topic, done.loaded.metadata), backlog.topic
        )

    async def _wait_until_due(self, tenant: str, table: TableName, backlog: Backlog, consumer: Any) -> None:
        idle_at = time.monotonic() + self._settings.lineage_seconds
        while True:
            now = time.monotonic()
            if backlog.displaced:
                raise Superseded("records came from before our place")
            if len(backlog.current):
                due = backlog.current.began + self._settings.commit_seconds
                if backlog.urgent or now >= due:
                    backlog.urgent = False
                    return
            else:
                due = idle_at
                if now >= idle_at:
                    await _store_progress(consumer, backlog)
                    await self._of_lineage(self._lineage.end_if_idle(tenant, table, backlog.topic), backlog.topic)
                    idle_at = due = now + self._settings.lineage_seconds
            backlog.changed.clear()
            try:
                async with asyncio.timeout(max(due - now, 0.001)):
                    await backlog.changed.wait()
            except TimeoutError:
                continue

    async def _of_lineage(self, telling: Awaitable[None], topic: str) -> None:
        """What lineage is not told now it is told with the next commit; the rows are where they belong."""
        try:
            await telling
        except (Problem, OSError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("stream_lineage_untold", topic=topic, error=str(error) or type(error).__name__)

    async def _stream(self, tenant: str, table: TableName) -> StreamRow:
        async with tenant_transaction(self._pool, tenant) as connection:
            row = await queries.get_stream(connection, table)
        if row is None:
            raise StreamNotFound(f"The stream of {table} is gone.")
        return await self._grants.fresh(row)

    async def _find_place(self, tenant: str, table: TableName, backlog: Backlog, consumer: Any) -> None:
        """The offsets in the table; else those of the group; else the beginning of what Kafka has.

        Raises StreamTopicRecreated when those of the table are of another topic, which nobody has accepted.
        """
        stream = await self._stream(tenant, table)
        properties = (await self._load(stream)).properties
        topic_id = await self._producer.topic_id(backlog.topic)
        places = {partition: TopicPartition(backlog.topic, partition) for partition in backlog.partitions}
        first = await consumer.beginning_offsets(list(places.values()))
        ends = await consumer.end_offsets(list(places.values()))
        found: dict[int, int] = {}
        replaces: dict[int, Progress] = {}
        of_table: list[int] = []
        for partition, place in places.items():
            known = progress(properties, backlog.topic, partition)
            if known is None:
                at = await consumer.committed(place)
                at = first[place] if at is None else at
            elif not _is_of_another(known, topic_id, ends[place], stream.accepted_topic_id):
                at = known.offset
                of_table.append(partition)
            elif topic_id is not None and stream.accepted_topic_id == topic_id:
                replaces[partition] = known
                at = first[place]
            else:
                raise _recreated(stream, partition, known, topic_id, ends[place])
            if at > ends[place]:
                raise ConnectionError(
                    f"partition {partition} of {backlog.topic}: the table is at {at}, and it ends at {ends[place]}. "
                    "The brokers have lost records: compare, then remove the table's property "
                    f"{offset_property(backlog.topic, partition)}"
                )
            if at < first[place]:
                STREAM_EXPIRED.inc(first[place] - at)
                log.error("stream_records_expired", topic=backlog.topic, partition=partition, records=first[place] - at)
                # the table still says `at`: the next commit begins there, over the gap
            found[partition] = at
        log.info("stream_placed", topic=backlog.topic, topic_id=topic_id, offsets=found, restarted=sorted(replaces))
        backlog.place(found, topic_id, replaces)
        # whoever committed these may have died before it said so
        backlog.untold = {partition: found[partition] for partition in of_table}

    async def _load(self, stream: StreamRow) -> TableMetadata:
        try:
            return (await self._committer.load(stream.tenant, stream.table, stream.delegation)).metadata
        except NoSuchTable as error:
            raise TableNotFound(
                f"The table {stream.table} is gone. Its stream waits; the next request to it makes the table anew."
            ) from error

    async def _commit(self, stream: StreamRow, batch: Batch, backlog: Backlog) -> tuple[Done, Prepared, Batch]:
        """Also what of the batch was committed: all of it, or its first records."""
        topic_id, replaces = backlog.topic_id, dict(backlog.replaces)
        # looked at after the records came: all of them are of the topic that the table is going to name
        if await self._producer.topic_id(stream.topic) != topic_id:
            raise Superseded("the topic was made anew")
        readers = await self._avro_readers(stream, batch)
        aside: set[int] = set()
        with self._scratch.folder() as folder:
            for turn in range(MOST_ROUNDS):
                metadata = await self._load(stream)
                span = Span(
                    stream.tenant, stream.table, stream.topic, stream.delegation, metadata.table_uuid,
                    dict(batch.starts), dict(batch.ends), topic_id, replaces,
                )  # fmt: skip
                check_place(span, metadata)
                work = folder / str(turn)
                work.mkdir()
                with STREAM_COMMIT_SECONDS.labels("read").time():
                    prepared = await asyncio.get_running_loop().run_in_executor(
                        self._executor, self._prepare, batch, metadata, readers, work, stream
                    )
                if prepared.records < len(batch):
                    batch = backlog.give_back(batch, prepared.records)
                    span = replace(span, starts=dict(batch.starts), ends=dict(batch.ends))
                fresh = [reject for reject in prepared.rejects if reject.index not in aside]
                if fresh:
                    await rejects.set_aside(self._producer, stream.topic, batch, fresh)
                    aside |= {reject.index for reject in fresh}
                try:
                    with STREAM_COMMIT_SECONDS.labels("commit").time():
                        done = await self._committer.commit(span, prepared.read.schema, prepared.read.files)
                        return done, prepared, batch
                except SchemaMoved:
                    continue
                except NoSuchTable as error:
                    raise TableNotFound(f"The table {stream.table} was dropped just now.") from error
        raise ConnectionError(f"the schema of {stream.table} changed under each of {MOST_ROUNDS} readings")

    def _prepare(
        self, batch: Batch, metadata: TableMetadata, readers: Mapping[int, AvroReader], folder: Any, stream: StreamRow
    ) -> Prepared:
        policy: OnNewColumn = "reject" if stream.on_new_column == "reject" else "evolve"
        try:
            return prepare(
                batch, metadata, readers, folder, on_new_column=policy,
                most_row_bytes=self._settings.max_row_bytes, most_bytes=self._settings.commit_bytes * DECODED_TIMES,
                limits=self._limits,
            )  # fmt: skip
        except engine.EngineError as error:
            raise engine_problem(error) from error

    async def _avro_readers(self, stream: StreamRow, batch: Batch) -> dict[int, AvroReader]:
        """The schemas that the batch names and this stream has; ids are never given twice, so they can be kept."""
        found: dict[int, AvroReader] = {}
        for schema_id in schema_ids(batch):
            reader = self._readers.get((stream.topic, schema_id))
            if reader is None and schema_id < 2**31:
                async with tenant_transaction(self._pool, stream.tenant) as connection:
                    schema = await queries.get_schema(connection, stream.topic, schema_id)
                if schema is None:
                    continue
                try:
                    reader = AvroReader(schema)
                except BadStreamSchema:
                    continue
                while len(self._readers) >= MOST_READERS:
                    self._readers.pop(next(iter(self._readers)))
                self._readers[stream.topic, schema_id] = reader
            if reader is not None:
                found[schema_id] = reader
        return found

    async def _tell(self, tenant: str, topic: str, error: Exception | None) -> None:
        """Show the stream's owner what keeps it; brokers and databases that are away are the operator's, in the log."""
        failure = None
        if isinstance(error, Problem):
            failure = problem_body(error, topic)
        elif error is not None:
            failure = {"type": "about:blank", "title": "The stream waits", "status": 503, "detail": str(error)[:1000]}
        try:
            async with tenant_transaction(self._pool, tenant) as connection:
                await queries.set_failure(connection, topic, failure)
        except (Problem, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as unavailable:
            log.warning("stream_failure_untold", topic=topic, error=str(unavailable) or type(unavailable).__name__)


def _is_of_another(known: Progress, topic_id: str | None, end: int, accepted: str | None) -> bool:
    """Whether what the table says is of another topic of this name, which was deleted since."""
    if known.topic_id is not None and topic_id is not None:
        return known.topic_id != topic_id
    # written before ids were, or brokers without ids: what the owner says, and what can't be
    return known.offset > end or (topic_id is not None and accepted == topic_id)


def _recreated(
    stream: StreamRow, partition: int, known: Progress, topic_id: str | None, end: int
) -> StreamTopicRecreated:
    STREAM_RECREATED.inc()
    log.error(
        "stream_topic_recreated", topic=stream.topic, partition=partition, committed=known.offset, end=end,
        topic_id=topic_id, committed_topic_id=known.topic_id,
    )  # fmt: skip
    path = f"/v1/streams/{stream.table.namespace}/{stream.table.name}"
    way_out = (
        f'PUT {path} with {{"accept_topic_id": "{topic_id}"}}.'
        if topic_id is not None
        else f"remove the table's property {offset_property(stream.topic, partition)}: these brokers give no ids."
    )
    return StreamTopicRecreated(
        f"The table holds partition {partition} up to {known.offset} of a topic that was deleted; the topic that has "
        f"its name now ends at {end}. Nothing is committed until it is said that these records are new. "
        f"To begin with the first: {way_out}",
        topic_id=topic_id,
        committed_topic_id=known.topic_id,
    )


async def _back_off(pause: float) -> float:
    """Wait; returns how long to wait the next time."""
    await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
    return min(pause * 2, LONGEST_PAUSE_SECONDS)


async def _store_progress(consumer: Any, backlog: Backlog) -> None:
    """For Kafka's own tools, and for a table that is made anew; the table's own offsets are the ones that count.

    What can't be said now, as in the middle of a rebalance, is said behind the next commit, or in the next lull.
    """
    if not backlog.untold:
        return
    offsets = {TopicPartition(backlog.topic, place): OffsetAndMetadata(at, "") for place, at in backlog.untold.items()}
    try:
        async with asyncio.timeout(PROGRESS_SECONDS):
            await consumer.commit(offsets)
    except (KafkaError, OSError, TimeoutError) as error:
        log.info("stream_progress_not_stored", topic=backlog.topic, error=type(error).__name__)
    else:
        backlog.untold = {}
