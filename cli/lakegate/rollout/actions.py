"""The steps there are. Each is one write to the API server, but Wait, Check and Tell, which write nothing there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lakegate.rollout.states import Rollout
from lakegate.rollout.world import Autoscaler, Pod, Route, Wanted, Workload


@dataclass(frozen=True)
class Wait:
    why: str
    needs_person: bool = False


@dataclass(frozen=True)
class Check:
    """Ask the gateway: the preview's a few times, for a sample, or the one that serves for what it answers.

    `usual`: what the old colour answers its clients, to compare with.
    """

    kind: Literal["smoke", "load", "usual", "traffic"]


@dataclass(frozen=True)
class Tell:
    """Tell pods what their consumers are to do, and hear how they stand."""

    wanted: Wanted
    pods: tuple[Pod, ...]


@dataclass(frozen=True)
class Remember:
    rollout: Rollout


@dataclass(frozen=True)
class Select:
    """Switch: the selector and the record of it, in one write."""

    rollout: Rollout
    colour: str


@dataclass(frozen=True)
class Finish:
    """The last write: the outcome, and the entry in the history."""

    rollout: Rollout


@dataclass(frozen=True)
class Scale:
    workload: Workload
    replicas: int


@dataclass(frozen=True)
class Hold:
    autoscaler: Autoscaler
    minimum: int


@dataclass(frozen=True)
class Release:
    """`keep`: somebody else has set its minimum since, which stays then."""

    autoscaler: Autoscaler
    keep: bool


@dataclass(frozen=True)
class Want:
    """Under a generation that is above the one seen, and above `known`."""

    wanted: Wanted
    colour: str | None
    known: int = 0


@dataclass(frozen=True)
class Weigh:
    """The preview's share of the route; None: it is not named there."""

    route: Route
    share: int | None


@dataclass(frozen=True)
class Disown:
    """Whoever wrote it may change its rules, or its minimum, again."""

    of: Route | Autoscaler


Step = Wait | Check | Tell | Remember | Select | Finish | Scale | Hold | Release | Want | Weigh | Disown


def written(step: Step) -> str:
    """What it writes, in words; empty for what writes nothing."""
    match step:
        case Scale(workload=workload):
            return f"the replicas of {workload.name}"
        case Hold(autoscaler=autoscaler) | Release(autoscaler=autoscaler) | Disown(of=Autoscaler() as autoscaler):
            return f"the minimum of autoscaler {autoscaler.name}"
        case Weigh(route=route) | Disown(of=Route() as route):
            return f"the weights of HTTPRoute {route.name}"
        case Want():
            return "whose consumers run"
        case Remember() | Select() | Finish():
            return "the active Service"
    return ""
