"""The table at the end."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field

from chaos.ledger import Ledger

_HEAD = ("fault", "rounds", "acknowledged", "repeated", "lost", "duplicates", "back after", "what the clients saw")
_WORST_SHOWN = 20


@dataclass
class Row:
    """All rounds of one fault. `note` says why it was not run."""

    fault: str
    wanted: int
    note: str = ""
    rounds: int = 0
    acknowledged: int = 0
    repeated: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    saw: Counter[str] = field(default_factory=Counter)

    def add(self, ledger: Ledger, back_seconds: float | None) -> None:
        self.rounds += 1
        self.acknowledged += len(ledger.acknowledged())
        self.repeated += sum(item.repeats > 0 for item in ledger.acknowledged())
        self.lost += ledger.lost
        self.duplicates += ledger.duplicates
        self.violations += ledger.violations
        self.saw += ledger.refused()
        if back_seconds is None:
            self.violations.append("it did not come back in time")
        else:
            self.back.append(back_seconds)

    @property
    def failed(self) -> bool:
        return bool(self.lost or self.duplicates or self.violations or (not self.note and self.rounds < self.wanted))

    def cells(self) -> tuple[str, ...]:
        if self.note:
            return (self.fault, "not run", "", "", "", "", "", self.note)
        back = f"{statistics.median(self.back):.1f} s, at worst {max(self.back):.1f} s" if len(self.back) > 1 else ""
        if len(self.back) == 1:
            back = f"{self.back[0]:.1f} s"
        saw = ", ".join(f"{words} ({times})" for words, times in self.saw.most_common()) or "nothing"
        rounds = str(self.rounds) if self.rounds == self.wanted else f"{self.rounds} of {self.wanted}"
        return (
            self.fault,
            rounds,
            str(self.acknowledged),
            str(self.repeated),
            str(len(self.lost)),
            str(len(self.duplicates)),
            back,
            saw + (f"; **{len(self.violations)} violations**" if self.violations else ""),
        )


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [_HEAD, tuple("---" for _ in _HEAD), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def complaints(rows: list[Row]) -> str:
    """What was lost, doubled or left hanging, in words; empty when nothing was."""
    said = []
    for row in rows:
        for what, items in (("lost", row.lost), ("doubled", row.duplicates), ("violation", row.violations)):
            said += [f"{row.fault}: {what}: {item}" for item in items[:_WORST_SHOWN]]
            if len(items) > _WORST_SHOWN:
                said.append(f"{row.fault}: {what}: and {len(items) - _WORST_SHOWN} more")
    return "\n".join(said)
