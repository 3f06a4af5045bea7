"""What one worker holds of one stream: records that came from Kafka and are in no snapshot yet."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lakegate_ingest.streams.topics import Progress

# A record costs more than its value: the objects around it.
RECORD_BYTES = 200


@dataclass
class Batch:
    """Records in the order in which they came. `starts`: where the table was when this began, by partition."""

    starts: dict[int, int]
    ends: dict[int, int]
    values: list[bytes | None] = field(default_factory=list)
    partitions: array[int] = field(default_factory=lambda: array("i"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    size_bytes: int = 0
    # the oldest record's time at its broker or producer, in Unix seconds
    oldest: float | None = None
    began: float = 0.0

    def __len__(self) -> int:
        return len(self.values)

    def take(self, partition: int, records: Iterable[Any]) -> int:
        """Append; returns the bytes they cost."""
        before = self.size_bytes
        for record in records:
            value = record.value
            self.values.append(value)
            self.offsets.append(record.offset)
            self.partitions.append(partition)
            self.size_bytes += RECORD_BYTES + (len(value) if value is not None else 0)
            self.ends[partition] = record.offset + 1
            at = record.timestamp / 1000
            if self.oldest is None or at < self.oldest:
                self.oldest = at
        return self.size_bytes - before

    def split(self, at: int) -> tuple[Batch, Batch]:
        """The first `at` records, and the others."""
        head, rest = self._part(0, at), self._part(at, len(self))
        head.starts = {partition: self.starts[partition] for partition in head.ends}
        head.ends = {
            partition: end if partition in rest.ends else self.ends[partition] for partition, end in head.ends.items()
        }
        rest.starts = {partition: head.ends.get(partition, self.starts[partition]) for partition in rest.ends}
        rest.ends = {partition: self.ends[partition] for partition in rest.ends}
        return head, rest

    def with_behind(self, other: Batch) -> Batch:
        """These records, and then those of `other`, which came later."""
        ages = [age for age in (self.oldest, other.oldest) if age is not None]
        return Batch(
            other.starts | self.starts, self.ends | other.ends, self.values + other.values,
            self.partitions + other.partitions, self.offsets + other.offsets, self.size_bytes + other.size_bytes,
            min(ages, default=None), self.began,
        )  # fmt: skip

    def _part(self, begin: int, end: int) -> Batch:
        values = self.values[begin:end]
        partitions, offsets = self.partitions[begin:end], self.offsets[begin:end]
        ends = {partition: offset + 1 for partition, offset in zip(partitions, offsets, strict=True)}
        size = sum(RECORD_BYTES + (len(value) if value is not None else 0) for value in values)
        return Batch({}, ends, values, partitions, offsets, size, self.oldest, self.began)


class Backlog:
    """Filled by the one who reads from Kafka, emptied by the one who commits; both in one event loop.

    It has no place in the stream at first, and again whenever somebody else has turned out to be further: then
    everything it holds is let go, and `place` says where to go on.
    """

    def __init__(self, topic: str, partitions: frozenset[int]) -> None:
        self.topic = topic
        self.partitions = partitions
        self.placed = False
        # where the reader has to go; it takes it from here, since only it may move the consumer
        self.seek: dict[int, int] | None = None
        # what the topic's name stood for when this got its place
        self.topic_id: str | None = None
        # restarts: what the table says of another topic of that name, which the next commit may replace
        self.replaces: dict[int, Progress] = {}
        # records came from before our place: the brokers have begun anew, or lost some
        self.displaced = False
        self.committing: Batch | None = None
        self.committed: dict[int, int] = {}
        # offsets in the table that the group may not have been told of
        self.untold: dict[int, int] = {}
        self.changed = asyncio.Event()
        self.urgent = False
        self._next: dict[int, int] = {}
        self.current = Batch({}, {})

    def place(self, positions: Mapping[int, int], topic_id: str | None, replaces: Mapping[int, Progress]) -> None:
        """Begin at these offsets; the reader is told to."""
        self.topic_id = topic_id
        self.replaces = dict(replaces)
        self.displaced = False
        self._next = dict(positions)
        self.committed = dict(positions)
        self.untold = {}
        self.current = Batch({}, {})
        self.committing = None
        self.placed = True
        self.seek = dict(positions)

    def resume(self) -> None:
        """The reader may be anywhere (its partitions were taken and given back): it is told to go on where it was."""
        if self.placed:
            self.seek = dict(self._next)

    def lose_place(self) -> None:
        self.placed = False
        self.seek = None
        self.current = Batch({}, {})
        self.committing = None

    def add(self, partition: int, records: list[Any], position: int) -> None:
        """Take what the consumer gave, and where it is now; what is behind us already (after a seek) is dropped."""
        if not self.placed or self.seek is not None or partition not in self._next:
            return
        expected = self._next[partition]
        if records[0].offset < expected:
            self.displaced = True
            self.changed.set()
            records = [record for record in records if record.offset >= expected]
            if not records:
                return
        batch = self.current
        if not batch.values:
            batch.began = time.monotonic()
        batch.starts.setdefault(partition, expected)
        batch.take(partition, records)
        batch.ends[partition] = max(position, batch.ends[partition])
        self._next[partition] = batch.ends[partition]
        self.changed.set()

    def seal(self) -> Batch:
        """Hand over what is there; the next records begin another batch."""
        sealed, self.current = self.current, Batch({}, {})
        self.committing = sealed
        return sealed

    def give_back(self, batch: Batch, kept: int) -> Batch:
        """The first `kept` records of what is being committed, now a batch of their own; the others are the next."""
        head, rest = batch.split(kept)
        self.current = rest.with_behind(self.current)
        self.committing = head
        # what was due is due
        self.urgent = True
        return head

    def done(self, batch: Batch) -> None:
        self.committed |= batch.ends
        self.untold |= batch.ends
        self.committing = None

    @property
    def size_bytes(self) -> int:
        return self.current.size_bytes + (self.committing.size_bytes if self.committing is not None else 0)

    @property
    def oldest(self) -> float | None:
        """Unix seconds of the oldest record held."""
        ages = [b.oldest for b in (self.committing, self.current) if b is not None and b.oldest is not None]
        return min(ages, default=None)
