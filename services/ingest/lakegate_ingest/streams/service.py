"""Rows into a stream: the table is known, the rows fit, the brokers have them; then, and only then, it is said so."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson

from lakegate_chassis import context
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import FieldError
from lakegate_contracts.identity import Principal, Scope
from lakegate_contracts.names import TableName
from lakegate_ingest.commit.tokens import TokenExchange
from lakegate_ingest.errors import (
    BadParameter,
    BadRows,
    BadStreamSchema,
    StreamNotFound,
    StreamTopicRecreated,
    StreamTopicRefused,
    TableNotFound,
    Unacknowledged,
)
from lakegate_ingest.metrics import STREAM_REQUESTS, STREAM_ROWS
from lakegate_ingest.settings import StreamSettings
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.avro import AvroReader
from lakegate_ingest.streams.door import Door
from lakegate_ingest.streams.producer import Record, StreamProducer
from lakegate_ingest.streams.queries import StreamRow
from lakegate_ingest.streams.repeats import Repeats, acceptance
from lakegate_ingest.streams.requests import OnNewColumn, Producing
from lakegate_ingest.streams.rooms import Room, Rooms
from lakegate_ingest.streams.rows import split
from lakegate_ingest.streams.schemas import Accepted
from lakegate_ingest.streams.tables import Tables

# A delegation is good for a day; a stream in use gets a fresh one long before.
REFRESH_SECONDS = 3600.0
MOST_KEPT = 10_000


class StreamService:
    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        tables: Tables,
        door: Door,
        producer: StreamProducer,
        rooms: Rooms,
        repeats: Repeats,
        exchange: TokenExchange,
        settings: StreamSettings,
    ) -> None:
        self._pool = pool
        self._repeats = repeats
        self._exchange = exchange
        self._tables = tables
        self._door = door
        self.producer = producer
        self.rooms = rooms
        self.settings = settings
        self._streams: OrderedDict[tuple[str, TableName], tuple[float, StreamRow]] = OrderedDict()

    async def accept_once(self, wanted: Producing, body: bytes, room: Room, key: str) -> tuple[Accepted, bool]:
        """Take the rows of a body, unless a request with that key has; whether one had. Raises Problem."""
        async with self._repeats.claim(wanted, key, body) as claim:
            if claim.replay is not None:
                STREAM_REQUESTS.labels("replayed").inc()
                return claim.replay, True
            topic, records = await self._records(wanted, body)
            await self.producer.ensure(topic)
            try:
                accepted = await self._repeats.send(wanted, claim, topic, records)
            except (Unacknowledged, StreamTopicRefused):
                self.producer.doubt(topic)
                raise
        return self._counted(accepted), False

    async def accept(self, wanted: Producing, body: bytes, room: Room) -> Accepted:
        """Take the rows of a body, all or none. Raises Problem."""
        topic, records = await self._records(wanted, body)
        placed = await self.producer.send(topic, records, room)
        return self._counted(acceptance(wanted.table, topic, placed))

    def _counted(self, accepted: Accepted) -> Accepted:
        STREAM_REQUESTS.labels("accepted").inc()
        STREAM_ROWS.labels("accepted").inc(accepted.rows)
        return accepted

    async def _records(self, wanted: Producing, body: bytes) -> tuple[str, list[Record]]:
        """The topic, and what is to be sent there."""
        rows = split(body, most_rows=self.settings.max_rows, most_row_bytes=self.settings.max_row_bytes)
        framed = [index for index, row in enumerate(rows) if row.startswith(b"\0")]
        if framed:
            raise BadRows(
                "Rows are JSON here. Avro is for producers that write to the stream's topic. Nothing was taken.",
                errors=[FieldError(detail="the row begins with a zero byte", pointer=f"/{i}") for i in framed[:100]],
            )
        stream = await self._checked(wanted, rows)
        info = context.current()
        headers = [("traceparent", info.traceparent.encode()), ("lakegate_subject", wanted.principal.subject.encode())]
        return stream.topic, [Record(row, headers) for row in rows]

    async def _checked(self, wanted: Producing, rows: Sequence[bytes]) -> StreamRow:
        """The stream that these rows may enter; made, with its table, by the first of them."""
        tenant = wanted.principal.tenant
        known = await self._tables.get(tenant, wanted.table, wanted.delegation)
        stream = await self._known_stream(wanted) if known is not None else None
        policy = self._policy(wanted, stream)
        if known is None:
            # a topic that can't be has to be refused before there is a table
            topic = await self._topic(wanted)
            schema = await self._door.infer(rows)
            await self.producer.ensure(topic)
            known = await self._tables.create(tenant, wanted.table, schema, wanted.delegation)
        if wanted.on_bad_row == "refuse":
            await self._door.check(rows, known, policy)
        return stream or await self.put(wanted, on_new_column=None)

    def _policy(self, wanted: Producing, stream: StreamRow | None) -> OnNewColumn:
        """A request may be stricter than its stream, never laxer: the worker knows the stream's policy only."""
        own: OnNewColumn = "reject" if stream is not None and stream.on_new_column == "reject" else "evolve"
        if own == "reject" and wanted.on_new_column == "evolve":
            raise BadParameter(
                "The stream adds no columns (on_new_column=reject). Leave the parameter out, or change the stream: "
                f"PUT /v1/streams/{wanted.table.namespace}/{wanted.table.name}"
            )
        return wanted.on_new_column or own

    async def _known_stream(self, wanted: Producing) -> StreamRow | None:
        """The stream's row as it was within the last moments, with a delegation that is not old."""
        key = (wanted.principal.tenant, wanted.table)
        kept = self._streams.get(key)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        async with tenant_transaction(self._pool, wanted.principal.tenant) as connection:
            row = await queries.get_stream(connection, wanted.table)
        if row is None or time.time() - row.delegated_at.timestamp() > REFRESH_SECONDS:
            return None
        return self._keep(row)

    async def configure(
        self, wanted: Producing, on_new_column: OnNewColumn | None, accept_topic_id: str | None = None
    ) -> StreamRow:
        """Make the stream of a table that exists, or change it. Raises TableNotFound, StreamTopicRecreated."""
        known = await self._tables.get(wanted.principal.tenant, wanted.table, wanted.delegation)
        if known is None:
            raise TableNotFound(
                f"There is no table {wanted.table}, and no rows to make one from. Send its first rows by POST, load a "
                "file, or create it by the Iceberg API."
            )
        if accept_topic_id is not None:
            topic_id = await self.producer.topic_id(await self._topic(wanted))
            if accept_topic_id != topic_id:
                raise StreamTopicRecreated(
                    f"The stream's topic has the id {topic_id} now. Nothing was changed.", topic_id=topic_id
                )
        return await self.put(wanted, on_new_column=on_new_column, accept_topic_id=accept_topic_id)

    async def add_schema(self, principal: Principal, stream: StreamRow, schema: dict[str, Any]) -> tuple[int, bool]:
        """Keep an Avro schema for direct producers; its id, and whether it is new. Raises BadStreamSchema."""
        AvroReader(schema)
        try:
            text = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:  # beyond 64 bits, or nested 255 times
            raise BadStreamSchema(f"The schema can't be kept: {error}.") from error
        digest = hashlib.sha256(text).digest()
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            return await queries.add_schema(
                connection, tenant=principal.tenant, topic=stream.topic, digest=digest, schema=schema,
                subject=principal.subject,
            )  # fmt: skip

    async def put(
        self, wanted: Producing, *, on_new_column: OnNewColumn | None, accept_topic_id: str | None = None
    ) -> StreamRow:
        """Make the stream and its topics, or give it a fresh delegation (and a policy)."""
        tenant = wanted.principal.tenant
        topic = await self._topic(wanted)
        self.producer.doubt(topic)
        await self.producer.ensure(topic)
        # what is stored can write to this namespace and do nothing else, whatever its caller may do
        grant = await self._exchange.renewed(wanted.delegation, f"{Scope.LOADS_WRITE}@{wanted.table.namespace}")
        async with tenant_transaction(self._pool, tenant) as connection:
            row = await queries.put_stream(
                connection, tenant=tenant, table=wanted.table, topic=topic, on_new_column=on_new_column,
                subject=wanted.principal.subject, grant=grant, accepted_topic_id=accept_topic_id,
            )  # fmt: skip
        return self._keep(row)

    async def delete(self, principal: Principal, table: TableName) -> None:
        """Take the stream from the workers. Its topics are Kafka's, and stay. Raises StreamNotFound."""
        stream = await self.get(principal, table)
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            await queries.delete_stream(connection, table, stream.topic)
        self._streams.pop((principal.tenant, table), None)

    async def _topic(self, wanted: Producing) -> str:
        """Raises BadTableName."""
        tenant = wanted.principal.tenant
        async with tenant_transaction(self._pool, tenant) as connection:
            return await queries.topic(connection, tenant, wanted.table)

    def _keep(self, row: StreamRow) -> StreamRow:
        key = (row.tenant, row.table)
        self._streams[key] = (time.monotonic() + self.settings.schema_seconds, row)
        self._streams.move_to_end(key)
        while len(self._streams) > MOST_KEPT:
            self._streams.popitem(last=False)
        return row

    async def get(self, principal: Principal, table: TableName) -> StreamRow:
        """Raises StreamNotFound."""
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            row = await queries.get_stream(connection, table)
        if row is None:
            raise StreamNotFound(
                f"No stream leads into {table}. Its first rows make it, or a PUT for direct producers: "
                f"/v1/streams/{table.namespace}/{table.name}"
            )
        return row
