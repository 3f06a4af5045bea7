"""How far a group has come in one partition. It is kept beside the committed offset, as its metadata."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson
from aiokafka.structs import OffsetAndMetadata


@dataclass(frozen=True, slots=True)
class Progress:
    """`offset` comes next; `position` has had its effect and `delivered` was handed out, as positions of the outbox.

    `attempts` failures and `crashes` are known of the next event. `epoch` is the group's rewind that was followed;
    events up to `floor` that the relay brings later are passed over.
    """

    offset: int
    position: int = 0
    delivered: int = 0
    attempts: int = 0
    crashes: int = 0
    epoch: int = 0
    floor: int = 0

    def committed(self) -> OffsetAndMetadata:
        parts = [self.position, self.delivered, self.attempts, self.crashes, self.epoch, self.floor]
        return OffsetAndMetadata(self.offset, orjson.dumps(parts).decode())

    def taken_over(self) -> Progress:
        """What the next member makes of it: something handed out and not committed is a crash."""
        crashes = self.crashes + 1 if self.delivered > self.position else 0
        return replace(self, crashes=crashes)

    def left(self) -> Progress:
        """What an orderly leave makes of it: what is in hand was given back."""
        return replace(self, delivered=self.position, crashes=0)


def from_committed(committed: OffsetAndMetadata) -> Progress:
    """Of an offset that somebody else's tool has set, only the offset is known."""
    try:
        parts = orjson.loads(committed.metadata)
        return Progress(committed.offset, *parts)
    except (orjson.JSONDecodeError, TypeError):
        return Progress(committed.offset)
