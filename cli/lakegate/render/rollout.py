"""A rollout on the terminal: one line for each phase, both colours as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lakegate.output import Column, Output
from lakegate.render import words
from lakegate.rollout.states import HistoryEntry, Phase, Rollout
from lakegate.rollout.world import COLOURS, World
from lakegate.text import styled

_STYLES = {
    Phase.PROMOTED: "green",
    Phase.ROLLED_BACK: "red",
    Phase.REVERTING: "bold red",
    Phase.RESTORING: "yellow",
    Phase.CLEANING: "yellow",
}
_MEANINGS = {
    Phase.PENDING: "waits for its driver",
    Phase.PREPARING: "the new colour comes up",
    Phase.TESTING: "smoke test and synthetic load on the preview Service",
    Phase.CANARY: "a share of the traffic",
    Phase.WAITING: "waits for `lakegate rollout promote`",
    Phase.HANDOVER: "consumers change colour",
    Phase.SWITCHING: "one last look",
    Phase.CONFIRMING: "the selector is switched; endpoints follow",
    Phase.WATCHING: "trouble rolls back from here on",
    Phase.RETIRING: "the old colour drains and goes to zero",
    Phase.REVERTING: "back, as soon as the old colour is seen to be healthy",
    Phase.RESTORING: "consumers go back",
    Phase.CLEANING: "the new colour goes to zero",
    Phase.PROMOTED: "done",
    Phase.ROLLED_BACK: "the old colour serves",
}


def line(rollout: Rollout) -> Text:
    """`12:00:03 testing     smoke test …`."""
    style = _STYLES.get(rollout.phase, "bold")
    at = rollout.phase_at.astimezone(UTC).strftime("%H:%M:%S")
    reason = f": {rollout.reason}" if rollout.reason else ""
    return styled((at, "dim"), " ", (f"{rollout.phase:<11}", style), f" {_MEANINGS[rollout.phase]}{reason}")


def outcome(rollout: Rollout) -> RenderableType:
    took = words.seconds((rollout.phase_at - rollout.started_at).total_seconds())
    serves = rollout.to_colour if rollout.phase is Phase.PROMOTED else rollout.from_colour
    text = f"{serves} serves, after {took}."
    notes = [styled((f"  {note}", "dim")) for note in rollout.notes]
    return Group(*notes, styled((text, _STYLES[rollout.phase])))


def status(output: Output, world: World, driver: str) -> RenderableType:
    """Both colours, and the rollout."""
    rollout = world.active.rollout
    pairs: list[tuple[str, RenderableType]] = [
        ("serves", styled((world.active.colour or "nothing yet", "bold"))),
        ("endpoints", words.count(len(world.serving))),
        ("consumers", _consumers(world)),
    ]
    if rollout is not None:
        pairs += [
            ("rollout", f"{rollout.id}, {rollout.from_colour or 'nothing'} to {rollout.to_colour}"),
            ("phase", line(rollout)),
        ]
    if rollout is not None and not rollout.phase.is_over:
        age = (datetime.now(UTC) - rollout.phase_at).total_seconds()
        pairs += [("for", words.seconds(age)), ("driver", driver or "none; `lakegate rollout resume` gives it one")]
    if world.route is not None and world.route.share:
        pairs.append(("canary", f"{world.route.share}%"))
    for preview, route in sorted(world.past.items()):
        pairs.append(("past it", styled((f"HTTPRoute {route} leads to {preview}", "yellow"))))
    columns = [
        Column("colour", style="bold"),
        Column("deployment"),
        Column("version"),
        Column("ready", right=True),
        Column("replicas", right=True),
        Column("trouble", wrap=True),
    ]
    rows = [
        (
            workload.colour,
            workload.name,
            workload.version or "-",
            words.count(workload.ready),
            words.count(workload.replicas),
            workload.stuck or next((p.trouble for p in world.pods_of(workload.colour) if p.trouble), "-"),
        )
        for colour in COLOURS
        for workload in world.workloads_of(colour)
    ]
    return Group(output.pairs(pairs), output.table(columns, rows))


def _consumers(world: World) -> str:
    if world.wanted is None or world.wanted.generation == 0:
        return "of every colour: nobody has decided"
    return world.wanted.colour or "of neither, in a hand-over"


def document(world: World, driver: str) -> dict[str, Any]:
    """The same for a program."""
    return {
        "serves": world.active.colour,
        "endpoints": sorted(world.serving),
        "consumers": world.wanted.colour if world.wanted else None,
        "driver": driver or None,
        "past": [{"route": route, "service": preview} for preview, route in sorted(world.past.items())],
        "rollout": world.active.rollout,
        "deployments": [
            {
                "name": workload.name,
                "colour": workload.colour,
                "version": workload.version,
                "ready": workload.ready,
                "replicas": workload.replicas,
            }
            for workload in world.workloads
        ],
    }


def history(output: Output, entries: Sequence[HistoryEntry]) -> RenderableType:
    """Newest first."""
    columns = [
        Column("rollout", style="bold"),
        Column("from"),
        Column("to"),
        Column("version"),
        Column("outcome"),
        Column("ended"),
        Column("took"),
        Column("by"),
        Column("reason", wrap=True),
    ]
    rows = [
        (
            entry.id,
            f"{entry.from_colour or '-'} {entry.previous_version}".strip(),
            entry.to_colour,
            entry.version or "-",
            Text(entry.outcome, style=_STYLES[entry.outcome]),
            words.moment(entry.ended_at),
            words.seconds((entry.ended_at - entry.started_at).total_seconds()),
            words.value(entry.by or "-"),
            words.value(entry.reason or "-", 200),
        )
        for entry in reversed(entries)
    ]
    return output.table(columns, rows)
