"""What is seen of the cluster, in our words. Versions are the API server's: a write names the one it was decided on."""

from __future__ import annotations

from dataclasses import dataclass, field

from lakegate.rollout.states import HistoryEntry, Rollout

COLOURS = ("blue", "green")
GATEWAY = "gateway"
WORKER = "worker"


def other(colour: str) -> str:
    return COLOURS[1 - COLOURS.index(colour)]


def target(active: Active) -> str:
    """The colour that does not serve; blue when none does yet."""
    return COLOURS[0] if active.colour is None else other(active.colour)


def role(name: str, colour: str) -> str:
    """`lakegate-green-ingest` and `ingest-green` without their colour."""
    return "-".join(part for part in name.split("-") if part != colour)


@dataclass(frozen=True)
class Workload:
    """A Deployment: `ready` counts pods of the newest template that serve, `wanted` is how many its values ask for."""

    name: str
    component: str
    colour: str
    version: str
    resource_version: str
    replicas: int
    ready: int
    settled: bool
    stuck: str = ""
    wanted: int = 0

    @property
    def role(self) -> str:
        """What the two colours' Deployments have in common: their name without the colour."""
        return role(self.name, self.colour)


@dataclass(frozen=True)
class Autoscaler:
    """An HPA. `restore` is its own minimum while we hold it higher. `ours`: as of a Route."""

    name: str
    role: str
    colour: str
    resource_version: str
    minimum: int
    maximum: int
    restore: int | None
    ours: bool = False


@dataclass(frozen=True)
class Pod:
    """`management` is the address of its management listener, where it names a port so."""

    name: str
    component: str
    colour: str
    ready: bool
    ending: bool
    management: str | None = None
    trouble: str = ""
    over: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which colour's consumers are to run: None is neither. A higher generation wins."""

    colour: str | None
    generation: int
    resource_version: str


@dataclass(frozen=True)
class Active:
    """The active Service: the colour it selects, and what is written on it."""

    name: str
    resource_version: str
    colour: str | None
    rollout: Rollout | None
    history: tuple[HistoryEntry, ...]
    annotated: bool
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """The share of the preview Service in percent, None where it is not named; `rules` lead to the active Service.

    `preview` is that Service's name, `previews` are both colours', and `stray` is the share that these rules give to
    the other one. `ours`: the API server takes us for the owner of the rules, and refuses them to whoever applies
    others.
    """

    name: str
    resource_version: str
    share: int | None
    rules: tuple[int, ...]
    preview: str
    previews: frozenset[str]
    stray: int | None = None
    ours: bool = False


@dataclass(frozen=True)
class World:
    """One look. `serving` are the pods that the active Service's EndpointSlices call ready, `previews` by colour.

    `services` are the preview Services, by colour. `past`: those that an HTTPRoute leads to past the active Service, by
    rules that are not ours to change, with its name.
    """

    active: Active
    workloads: tuple[Workload, ...]
    autoscalers: tuple[Autoscaler, ...]
    pods: tuple[Pod, ...]
    serving: frozenset[str]
    previews: dict[str, frozenset[str]]
    services: dict[str, str]
    wanted: Wanted | None = None
    route: Route | None = None
    past: dict[str, str] = field(default_factory=dict)

    def workloads_of(self, colour: str | None) -> list[Workload]:
        return [workload for workload in self.workloads if workload.colour == colour]

    def autoscalers_of(self, colour: str | None) -> list[Autoscaler]:
        return [scaler for scaler in self.autoscalers if scaler.colour == colour]

    def pods_of(self, colour: str | None) -> list[Pod]:
        return [pod for pod in self.pods if pod.colour == colour]

    def workers_of(self, colour: str | None) -> list[Pod]:
        """Pods of the Jobs that read large loads, and have not ended."""
        return [pod for pod in self.pods_of(colour) if pod.component == WORKER and not pod.over]

    def gateways_of(self, colour: str) -> frozenset[str]:
        return frozenset(pod.name for pod in self.pods_of(colour) if pod.component == GATEWAY)

    def missing(self, colour: str, floors: dict[str, int]) -> str:
        """Why the colour could not take the traffic now; empty when it could. Floors are by role."""
        workloads = sorted(self.workloads_of(colour), key=lambda workload: workload.name)
        gateway = next((workload for workload in workloads if workload.component == GATEWAY), None)
        if gateway is None:
            return f"{colour} has no gateway"
        for workload in workloads:
            floor = max(1, floors.get(workload.role, 1))
            if workload.ready < floor:
                return f"{workload.name}: {workload.ready} of {floor} pods are ready"
        behind = len(self.previews.get(colour, frozenset()))
        floor = max(1, floors.get(gateway.role, 1))
        if behind < floor:
            return f"{gateway.name}: {behind} of {floor} endpoints are ready"
        return ""
