"""Where in a partition a position of the outbox stands: positions rise with offsets, so it is found by halving."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aiokafka.structs import TopicPartition

from lakegate_chassis.eventlog.kafka.connections import Connections, translated
from lakegate_chassis.eventlog.kafka.records import position_of

_FETCH_MS = 10_000


async def offsets_after(
    connections: Connections, partitions: Collection[TopicPartition], position: int
) -> dict[TopicPartition, int]:
    """The first offset of each partition whose event stands after `position`; its end when there is none.

    The relay may repeat a page, so there can be several such places; everything after `position` follows each of
    them. Raises ConnectionError.
    """
    async with connections.reader() as reader:
        with translated():
            beginnings: dict[TopicPartition, int] = await reader.beginning_offsets(list(partitions))
            if position <= 0:
                return beginnings
            ends = await reader.end_offsets(list(partitions))
            return {
                partition: await _halve(reader, partition, beginnings[partition], ends[partition], position)
                for partition in partitions
            }


async def _halve(reader: Any, partition: TopicPartition, low: int, high: int, position: int) -> int:
    reader.assign([partition])
    while low < high:
        middle = (low + high) // 2
        reader.seek(partition, middle)
        found = await reader.getmany(partition, timeout_ms=_FETCH_MS, max_records=1)
        records = found.get(partition)
        if not records:
            # compacted away up to the end
            high = middle
            continue
        at = position_of(records[0])
        # a stranger's record has no position: whatever it is worth, it is handed out again
        if at is None or at > position:
            high = middle
        else:
            low = records[0].offset + 1
    return low
