"""The port to the cluster: one look, and writes that hold only for what was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from lakegate.rollout.states import HistoryEntry, Rollout
from lakegate.rollout.world import Active, Autoscaler, Route, Wanted, Workload, World


@dataclass(frozen=True)
class Names:
    """What the charts call things. `preview` takes the colour: its gateway's Service, while no Deployment is seen."""

    namespace: str
    service: str = "lakegate"
    preview: str = "lakegate-{colour}-gateway"
    consumers: str = "lakegate-consumers"
    lease: str = "lakegate-rollout"
    suite: str = "lakegate"

    def preview_of(self, colour: str) -> str:
        return self.preview.format(colour=colour)


@dataclass(frozen=True)
class Holder:
    """Who holds the Lease. It has expired when it stays as it is for `seconds`, by the clock of who looks."""

    identity: str
    resource_version: str
    seconds: int


class Cluster(Protocol):
    """Every write names the version that was seen and raises Conflict when it is another by now; all raise ApiError."""

    names: Names

    def look(self) -> World:
        """Everything that a decision on the rollout needs."""
        ...

    def active(self) -> Active: ...

    def remember(
        self,
        seen: Active,
        rollout: Rollout,
        *,
        select: str | None = None,
        history: tuple[HistoryEntry, ...] | None = None,
    ) -> None:
        """Write the rollout, and with it the selector of the active Service or the history: one write."""
        ...

    def scale(self, seen: Workload, replicas: int) -> None: ...

    def hold(self, seen: Autoscaler, minimum: int) -> None:
        """Raise its minimum, and note its own beside it."""
        ...

    def release(self, seen: Autoscaler, *, keep: bool) -> None:
        """Give it its own minimum back, or with `keep` only take the note of that away."""
        ...

    def want(self, seen: Wanted, colour: str | None, known: int = 0) -> None:
        """Say whose consumers are to run, under the next generation, which is above `known`, too."""
        ...

    def weigh(self, seen: Route, share: int | None) -> None:
        """Send this share, in percent, to the new colour's preview Service; None takes previews out of the route."""
        ...

    def disown(self, seen: Route | Autoscaler) -> None:
        """Be the owner of no field of it: helm, for one, refuses to apply what another owns."""
        ...

    def holder(self) -> Holder | None:
        """None when there is no Lease yet."""
        ...

    def take_lease(self, seen: Holder | None, identity: str, seconds: int) -> Holder:
        """Make or renew the Lease. An empty identity lets it go."""
        ...

    def address(self, service: str) -> str:
        """Its URL, without a name to be resolved: the driver need not be in the cluster, only on its network."""
        ...

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        """A Kubernetes Event on the active Service."""
        ...

    def start_job(self, manifest: dict[str, Any]) -> None: ...
