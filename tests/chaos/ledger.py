"""What the clients sent, what was acknowledged, and what they were told instead."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

now = time.monotonic


@dataclass
class Operation:
    """One thing that a client wants done once, however often it has to ask.

    `facts` is what the check needs to know, such as the id of the run.
    """

    kind: str
    name: str
    begun: float
    acknowledged: float | None = None
    repeats: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """An answer that is none: a problem with its slug, or, with status 0, the end of the connection.

    `began`: when it was asked.
    """

    began: float
    kind: str
    status: int
    slug: str
    detail: str = ""

    @property
    def words(self) -> str:
        return f"{self.status} {self.slug}" if self.status else self.slug


@dataclass(frozen=True)
class Back:
    """After how long all kinds of clients were served again, and which of them was the last."""

    seconds: float
    last: str


@dataclass
class Ledger:
    """One round's. `violations` is what must never happen: a hang, an answer that is no problem, a wrong read."""

    operations: list[Operation] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    # by kind of client, when the newest request began that was not refused
    served: dict[str, float] = field(default_factory=dict)

    def begin(self, kind: str, name: str, **facts: Any) -> Operation:
        operation = Operation(kind, name, now(), facts=facts)
        self.operations.append(operation)
        return operation

    def acknowledge(self, operation: Operation, **facts: Any) -> None:
        operation.acknowledged = now()
        operation.facts |= facts

    def serve(self, kind: str, began: float) -> None:
        self.served[kind] = max(began, self.served.get(kind, began))

    def acknowledged(self, kind: str | None = None) -> list[Operation]:
        return [item for item in self.operations if item.acknowledged and kind in (None, item.kind)]

    def back_since(self, moment: float, kinds: set[str]) -> Back | None:
        """When every kind of client had something acknowledged that it began after `moment`; None: not yet."""
        first: dict[str, float] = {}
        for item in self.operations:
            if item.begun >= moment and item.acknowledged is not None:
                first[item.kind] = min(item.acknowledged, first.get(item.kind, item.acknowledged))
        if not kinds <= first.keys():
            return None
        last = max(first, key=lambda kind: first[kind])
        return Back(first[last] - moment, last)

    def refused(self) -> Counter[str]:
        return Counter(refusal.words for refusal in self.refusals)
