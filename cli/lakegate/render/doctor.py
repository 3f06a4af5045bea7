"""What `lakegate doctor` found, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lakegate.doctor.findings import Finding, State
from lakegate.output import Column, Output

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.UNKNOWN: "dim", State.FAILED: "bold red"}


def findings(output: Output, found: Sequence[Finding]) -> RenderableType:
    columns = [
        Column("check", style="bold"),
        Column("state"),
        Column("found", wrap=True),
        Column("what to do", wrap=True),
    ]
    rows = [(item.area, Text(item.state, style=_STYLES[item.state]), item.found, item.remedy) for item in found]
    counts = Counter(item.state for item in found)
    words = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    verdict = "Mend what failed first." if counts[State.FAILED] else "Nothing stands in the way of an install."
    style = _STYLES[State.FAILED if counts[State.FAILED] else State.OK]
    return Group(output.table(columns, rows), Text(f"{words}. {verdict}", style=style))


def document(found: Sequence[Finding]) -> dict[str, Any]:
    """The same for a program."""
    return {"ready": all(item.state is not State.FAILED for item in found), "findings": list(found)}
