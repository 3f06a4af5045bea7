"""Where groups stand: what they committed beside the ends of their topics."""

from __future__ import annotations

from collections.abc import Collection

from aiokafka.errors import for_code
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from lakegate_chassis.eventlog.kafka.connections import Connections, translated
from lakegate_chassis.eventlog.kafka.groups import Control
from lakegate_chassis.eventlog.kafka.progress import from_committed
from lakegate_chassis.eventlog.port import GroupState

Offsets = dict[TopicPartition, int]


async def group_states(
    connections: Connections, controls: Collection[Control], relayed: int, unsent: int
) -> list[GroupState]:
    """One for each control; the relay is at `relayed` with `unsent` before it. Raises ConnectionError."""
    if not controls:
        return []
    async with connections.admin() as admin, connections.reader() as reader:
        with translated():
            described = await admin.describe_topics(sorted({topic for control in controls for topic in control.topics}))
            partitions = [
                TopicPartition(topic["topic"], place["partition"])
                for topic in described
                for place in topic["partitions"]
            ]
            beginnings: Offsets = await reader.beginning_offsets(partitions)
            ends: Offsets = await reader.end_offsets(partitions)
            states = []
            for control in controls:
                own = [partition for partition in partitions if partition.topic in control.topics]
                committed = await admin.list_consumer_group_offsets(control.group, partitions=own)
                missing = {partition: _missing(partition, committed, beginnings, ends) for partition in own}
                states.append(_state(control, committed, missing, relayed, unsent))
            return states


async def has_members(connections: Connections, group: str) -> bool:
    """Raises ConnectionError."""
    async with connections.admin() as admin:
        with translated():
            (answer,) = await admin.describe_consumer_groups([group])
    # a group that brokers don't know is no error: it has no members
    for error_code, _, _, _, _, members, *_ in answer.groups:
        if error_code:
            raise ConnectionError(f"Kafka: {for_code(error_code).__name__}")
        if members:
            return True
    return False


def _missing(
    partition: TopicPartition, committed: dict[TopicPartition, OffsetAndMetadata], beginnings: Offsets, ends: Offsets
) -> int:
    known = committed.get(partition)
    offset = max(known.offset, beginnings[partition]) if known is not None else beginnings[partition]
    return max(ends[partition] - offset, 0)


def _state(
    control: Control,
    committed: dict[TopicPartition, OffsetAndMetadata],
    missing: Offsets,
    relayed: int,
    unsent: int,
) -> GroupState:
    """Everything up to `position` has had its effect: what the slowest partition says, or the relay."""
    position, attempts = relayed, 0
    for partition, records in missing.items():
        known = committed.get(partition)
        made = from_committed(known) if known is not None and known.offset >= 0 else None
        if made is None or made.epoch < control.epoch:
            if records or made is not None:
                position = min(position, control.start)
            continue
        attempts = max(attempts, made.attempts)
        if records:
            position = min(position, made.position)
    return GroupState(
        group=control.group,
        topics=control.topics,
        position=position,
        lag=sum(missing.values()) + unsent,
        attempts=attempts,
        dead_letters=control.dead_letters,
        updated_at=None,
    )
