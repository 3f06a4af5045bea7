"""The state of an embedded suite."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.text import Text

from lakegate.embedded.layout import Home
from lakegate.embedded.processes import resident_bytes
from lakegate.embedded.state import Phase, SuiteState
from lakegate.output import Column, Output
from lakegate.render import words

_STYLES = {Phase.READY: "green", Phase.STARTING: "yellow", Phase.STOPPING: "yellow", Phase.RESTARTING: "bold red"}


def status(output: Output, state: SuiteState, home: Home) -> RenderableType:
    """A line per process: state, pid, ports, memory, restarts."""
    age = (datetime.now(UTC) - state.started_at).total_seconds()
    pairs: list[tuple[str, RenderableType]] = [
        ("url", Text(state.url, style="bold")),
        ("state", Text(state.phase, style=_STYLES[state.phase])),
        ("up for", words.seconds(age)),
        ("data", str(home.path)),
        ("profile", state.profile),
    ]
    columns = [
        Column("process", style="bold"),
        Column("state"),
        Column("pid", right=True),
        Column("port", right=True),
        Column("management", right=True),
        Column("memory", right=True),
        Column("restarts", right=True),
        Column("last exit"),
        Column("log", style="dim"),
    ]
    memory = {item.name: resident_bytes(item.pid) for item in state.processes.values() if item.pid}
    memory["supervisor"] = resident_bytes(state.pid, family=False)
    rows: list[tuple[RenderableType, ...]] = [
        (
            item.name,
            Text(item.phase, style=_STYLES[item.phase]),
            str(item.pid or "-"),
            str(item.port),
            str(item.management_port or "-"),
            words.size(memory.get(item.name)),
            str(item.restarts),
            item.last_exit or "-",
            item.log.name,
        )
        for item in state.processes.values()
    ]
    supervisor = ("supervisor", state.phase, str(state.pid), "-", "-", words.size(memory["supervisor"]), "-", "-", "-")
    # Pages that processes share, as PostgreSQL's do, are counted once for each: the sum is an upper bound.
    pairs.append(("memory", f"{words.size(sum(memory.values()))} at most"))
    return Group(output.pairs(pairs), output.table(columns, [*rows, supervisor]))
