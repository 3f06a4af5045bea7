"""How far streams are: what the brokers have, and what the tables have of it."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError
from pyiceberg.typedef import EMPTY_DICT

from lakegate_chassis.eventlog.kafka.connections import Connections, translated
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import problem_body
from lakegate_contracts.identity import Principal
from lakegate_ingest.commit.catalog import Catalog, NoSuchTable
from lakegate_ingest.errors import StreamTopicGone, Unacknowledged
from lakegate_ingest.streams import queries
from lakegate_ingest.streams.producer import StreamProducer
from lakegate_ingest.streams.queries import StreamRow
from lakegate_ingest.streams.rejects import read_rejects
from lakegate_ingest.streams.schemas import PartitionState, RejectedRow, Stream, StreamStatus
from lakegate_ingest.streams.topics import REJECTS, committed_offset


class States:
    def __init__(
        self,
        pool: asyncpg.Pool,
        catalog: Catalog,
        connections: Connections,
        producer: StreamProducer,
        *,
        group: str,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._connections = connections
        self._producer = producer
        self._group = group

    async def page(self, principal: Principal, *, after: str, limit: int) -> list[StreamRow]:
        """By topic, those after `after`."""
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            return await queries.list_streams(connection, after=after, limit=limit)

    async def status(self, stream: StreamRow, delegation: str) -> StreamStatus:
        """Raises Unacknowledged, CatalogRefused, CatalogUnavailable."""
        try:
            properties = (await self._catalog.load(stream.tenant, stream.table, delegation)).metadata.properties
        except NoSuchTable:
            properties = EMPTY_DICT
        try:
            topic_id = await self._producer.topic_id(stream.topic)
            partitions = await self._producer.partitions(stream.topic)
        except StreamTopicGone as gone:
            told = described(stream).model_dump() | {"failure": problem_body(gone, stream.topic)}
            return StreamStatus(**told, topic_id=None, partitions=(), lag=0, rejects=0)
        places = [TopicPartition(stream.topic, partition) for partition in partitions]
        aside = TopicPartition(stream.topic + REJECTS, 0)
        try:
            async with self._connections.reader() as consumer:
                with translated():
                    first = await consumer.beginning_offsets([*places, aside])
                    ends = await consumer.end_offsets([*places, aside])
        except ConnectionError as error:
            raise Unacknowledged("The brokers can't be reached. Try again shortly.") from error
        held = {place: committed_offset(properties, stream.topic, place.partition) for place in places}
        begins = first | await self._of_group([place for place, committed in held.items() if committed is None])
        states = []
        for place, committed in held.items():
            done = committed if committed is not None else max(begins[place], first[place])
            states.append(
                PartitionState(
                    partition=place.partition, committed=committed, end=ends[place], lag=max(ends[place] - done, 0)
                )
            )
        return StreamStatus(
            **described(stream).model_dump(),
            topic_id=topic_id,
            partitions=tuple(states),
            lag=sum(state.lag for state in states),
            rejects=ends[aside] - first[aside],
        )

    async def _of_group(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the workers begin with a table that says nothing: it was made anew. Raises Unacknowledged."""
        if not places:
            return {}
        try:
            async with self._connections.admin() as admin:
                try:
                    found = await admin.list_consumer_group_offsets(self._group, partitions=list(places))
                except GroupCoordinatorNotAvailableError:
                    return {}  # of new brokers, where no group has been yet
        except ConnectionError as error:
            raise Unacknowledged("The brokers can't be reached. Try again shortly.") from error
        return {place: at.offset for place, at in found.items() if at.offset >= 0}

    async def rejects(self, stream: StreamRow, cursor: str | None, limit: int) -> tuple[list[RejectedRow], str | None]:
        """Raises Unacknowledged, BadCursor."""
        return await read_rejects(self._connections, stream.topic, cursor, limit)


def described(stream: StreamRow) -> Stream:
    return Stream(
        table=str(stream.table),
        topic=stream.topic,
        rejects_topic=stream.topic + REJECTS,
        on_new_column="reject" if stream.on_new_column == "reject" else "evolve",
        subject=stream.subject,
        failure=stream.failure,
        committed_at=stream.committed_at,
        created_at=stream.created_at,
    )
