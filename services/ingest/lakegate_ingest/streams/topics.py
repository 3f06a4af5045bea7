"""What a stream is called in Kafka, and in the table's properties."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lakegate_chassis.numerals import natural
from lakegate_contracts.events import STREAM_PREFIX, STREAM_REJECTS
from lakegate_contracts.names import TableName
from lakegate_ingest.errors import BadTableName

# No table's topic ends so: in a name, two hexadecimal digits follow every `-`.
REJECTS = STREAM_REJECTS
LONGEST_NAME = 249 - len(REJECTS)
# Kafka takes "." and "_" for the same when it compares names, so only one of them may stand in a topic of ours.
_UNSAFE = re.compile(r"[^A-Za-z0-9]")


def topic_of(tenant: str, table: TableName) -> str:
    """`lakegate.stream.<tenant>.<levels>.<table>`, a byte outside of [A-Za-z0-9] as `-hh`. Raises BadTableName."""
    name = STREAM_PREFIX + ".".join(_segment(part) for part in (tenant, *table.levels, table.name))
    if len(name) > LONGEST_NAME:
        raise BadTableName(
            f"The name of the stream's topic would have {len(name)} characters, and Kafka takes {LONGEST_NAME}. "
            "Stream into a table with a shorter name."
        )
    return name


def _segment(text: str) -> str:
    return _UNSAFE.sub(lambda found: "".join(f"-{byte:02x}" for byte in found[0].encode()), text)


def offset_property(topic: str, partition: int) -> str:
    """The table property that holds the offset after the last one that is in the table, or was set aside."""
    return f"lakegate.stream.{topic}.{partition}"


def topic_id_property(topic: str, partition: int) -> str:
    """The table property with the id of the topic that the offset is of: a name may come to stand for another topic."""
    return f"{offset_property(topic, partition)}.topic-id"


@dataclass(frozen=True)
class Progress:
    """What a table says of a partition; `topic_id` None: its writer knew none."""

    offset: int
    topic_id: str | None


def progress(properties: Mapping[str, str], topic: str, partition: int) -> Progress | None:
    """None where nothing of the partition was committed."""
    offset = committed_offset(properties, topic, partition)
    return None if offset is None else Progress(offset, properties.get(topic_id_property(topic, partition)))


def committed_offset(properties: Mapping[str, str], topic: str, partition: int) -> int | None:
    """None where nothing of the partition was committed, or somebody has put something else there."""
    return natural(properties.get(offset_property(topic, partition)))
