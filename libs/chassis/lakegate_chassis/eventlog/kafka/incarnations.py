"""Which topic a name stands for now: one that was deleted and made again has its name, but another id (KIP-516).

aiokafka asks for metadata in versions that know no ids; this is version 10 of the same request.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from lakegate_chassis.eventlog.kafka.connections import translated

_METADATA = 3
_VERSION = 10
_UNKNOWN_TOPIC = 3
_NO_ID = (0, 0)


class NoSuchTopic(ConnectionError):
    """The brokers have no topic of that name."""


class _Answer(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("id_high", Int64),
                ("id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("id_high", Int64), ("id_low", Int64), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Asking(Request[_Question]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(*_NO_ID, self._topic, {})], False, False, False, {})


async def topic_id(client: Any, topic: str, partitions: list[int]) -> str | None:
    """The topic's id as Kafka's own tools write it; None where the brokers give none (before 2.8).

    All brokers that lead one of its partitions are asked: another one may not have heard yet. Raises NoSuchTopic, and
    ConnectionError when it is being made anew.
    """
    leaders = {client.cluster.leader_for_partition(TopicPartition(topic, partition)) for partition in partitions}
    found: set[tuple[int, int]] = set()
    with translated():
        for leader in leaders:
            if leader in (None, -1):
                raise ConnectionError(f"Kafka: a partition of topic {topic} has no leader")
            try:
                answer = await client.send(leader, _Asking(topic))
            except (NotImplementedError, IncompatibleBrokerVersion):
                return None
            (error, _, high, low, *_rest) = answer.topics[0]
            if error == _UNKNOWN_TOPIC:
                raise NoSuchTopic(f"Kafka: there is no topic {topic}")
            if error:
                raise ConnectionError(f"Kafka: topic {topic} can't be asked for: error {error}")
            found.add((high, low))
    if len(found) != 1:
        raise ConnectionError(f"Kafka: the brokers do not agree on what topic {topic} is")
    (ids,) = found
    if ids == _NO_ID:
        return None
    return base64.urlsafe_b64encode(struct.pack(">qq", *ids)).decode().rstrip("=")
