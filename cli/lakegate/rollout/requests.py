"""What people ask for: begin, promote, abort. Each is one compare-and-set, like the driver's own writes."""

from __future__ import annotations

from datetime import UTC, datetime

from lakegate.rollout.cluster import Cluster
from lakegate.rollout.errors import Conflict, NotPossible
from lakegate.rollout.objects import PREVIEW
from lakegate.rollout.states import HistoryEntry, Options, Phase, Request, Rollout
from lakegate.rollout.world import COLOURS, GATEWAY, Active, World, target

_TRIES = 5


def refuse_if_busy(active: Active) -> None:
    """Raises NotPossible while a rollout is under way."""
    rollout = active.rollout
    if rollout is not None and not rollout.phase.is_over:
        raise NotPossible(
            f"Rollout {rollout.id} to {rollout.to_colour} is {rollout.phase}: one at a time. "
            "`lakegate rollout status` shows it, `abort` ends it, `resume` gives it a driver."
        )


def begin(
    cluster: Cluster, options: Options, *, by: str, to_colour: str | None = None, now: datetime | None = None
) -> Rollout:
    """Claim the active Service for a new rollout. Raises NotPossible, also when another was quicker."""
    world = cluster.look()
    refuse_if_busy(world.active)
    chosen = to_colour or target(world.active)
    if chosen not in COLOURS:
        raise NotPossible(f"{chosen} is no colour: {' or '.join(COLOURS)}")
    if chosen == world.active.colour:
        raise NotPossible(f"{chosen} is what serves already")
    _check(world, chosen, options)
    now = now or datetime.now(UTC)
    rollout = Rollout(
        id=now.strftime("%Y%m%d-%H%M%S"),
        from_colour=world.active.colour,
        to_colour=chosen,
        version=_version(world, chosen),
        previous_version=_version(world, world.active.colour),
        options=options,
        started_at=now,
        phase_at=now,
        by=by[:100],
    )
    try:
        cluster.remember(world.active, rollout)
    except Conflict as error:
        raise NotPossible("The active Service was changed at this moment; look at `lakegate rollout status`") from error
    return rollout


def _check(world: World, colour: str, options: Options) -> None:
    """What would fail minutes later is said now."""
    gateways = sorted(workload.name for workload in world.workloads_of(colour) if workload.component == GATEWAY)
    if not gateways:
        raise NotPossible(f"No {colour} release is installed: no Deployment of a gateway has that colour.")
    if len(gateways) > 1:
        raise NotPossible(
            f"{' and '.join(gateways)} are both {colour}: the active Service would select the pods of both, one of "
            "which would be tested. Uninstall the release that is not meant; two installations need two namespaces."
        )
    refuse_ways_past(world)
    if options.hand_over_consumers and world.wanted is None:
        raise NotPossible(
            "The ConfigMap that tells consumers whose turn it is is not there; the base release brings it. "
            "Without consumers: --no-consumers."
        )
    old = world.active.colour
    roles = {workload.role for workload in world.workloads_of(colour)}
    lost = sorted({workload.role for workload in world.workloads_of(old) if workload.replicas} - roles) if old else []
    if lost:
        raise NotPossible(
            f"{old} has {', '.join(lost)}, and {colour} has not: its release is not whole, or is not called as the "
            "other one but for the colour."
        )


def refuse_ways_past(world: World) -> None:
    """Raises NotPossible where an HTTPRoute leads to a colour whatever the active Service selects."""
    for preview, route in sorted(world.past.items()):
        raise NotPossible(
            f"HTTPRoute {route} leads to {preview} past the Service {world.active.name}: its clients would see that "
            f"colour untested, or lose it when it goes to zero. Have it lead to {world.active.name}; where only "
            f"testers use it, `kubectl annotate httproute {route} {PREVIEW}=true` has it left alone."
        )


def check_release(world: World, pattern: str) -> None:
    """Colours are compared Deployment by Deployment, whose names begin with the release's. Raises NotPossible."""
    if "{colour}" not in pattern.split("-"):
        raise NotPossible(
            f"--release {pattern}: both colours' releases are called alike but for the colour, so it holds {{colour}} "
            "between dashes: acme-{colour} is acme-blue and acme-green."
        )
    old = world.active.colour
    for workload in world.workloads_of(old):
        named = f"{pattern.format(colour=old)}-{workload.component}"
        if old is not None and workload.component == GATEWAY and workload.name != named:
            raise NotPossible(
                f"--release {pattern}: {old}, which serves, is called {workload.name.removesuffix('-gateway')}. "
                "The new colour's release is called as that one but for the colour."
            )


def _version(world: World, colour: str | None) -> str:
    versions = {w.version for w in world.workloads_of(colour) if w.component == GATEWAY}
    return ", ".join(sorted(versions))[:100]


def withdraw(cluster: Cluster, rollout_id: str, reason: str) -> Rollout | None:
    """End a rollout that no driver has begun, so that nothing but its claim was written; None when one has."""
    active = cluster.active()
    rollout = active.rollout
    if rollout is None or rollout.id != rollout_id or rollout.phase is not Phase.PENDING or rollout.driver:
        return None
    over = rollout.into(Phase.ROLLED_BACK, datetime.now(UTC), reason=reason)
    try:
        cluster.remember(active, over, history=(*active.history, HistoryEntry.of(over)))
    except Conflict:
        return None
    return over


def ask(cluster: Cluster, request: Request) -> Rollout:
    """Leave a request for the driver. Raises NotPossible with what can be done instead."""
    for _ in range(_TRIES):
        active = cluster.active()
        rollout = current(active)
        _check_request(rollout, request)
        asked = rollout.model_copy(update={"requested": request})
        try:
            cluster.remember(active, asked)
        except Conflict:
            continue
        return asked
    raise NotPossible("The rollout changes too quickly; try again")


def _check_request(rollout: Rollout, request: Request) -> None:
    if request is Request.ABORT and not rollout.phase.can_be_aborted:
        way = "rollback is closed; `lakegate rollout undo` goes back once it is over"
        if rollout.phase is not Phase.RETIRING:
            way = "it is on its way back already"
        raise NotPossible(f"Rollout {rollout.id} is {rollout.phase}: {way}.")
    promotable = (Phase.CANARY, Phase.WAITING, Phase.WATCHING, Phase.REVERTING)
    if request is Request.PROMOTE and rollout.phase not in promotable:
        raise NotPossible(
            f"Rollout {rollout.id} is {rollout.phase}: promote ends a canary, a wait or a watch window early."
        )


def current(active: Active) -> Rollout:
    """The rollout under way. Raises NotPossible."""
    if active.rollout is None or active.rollout.phase.is_over:
        raise NotPossible("No rollout is under way.")
    return active.rollout


def previous(world: World) -> str:
    """The colour of the release that served before the present one. Raises NotPossible when there was none, or when
    another has been installed there since: a rollout that was turned back leaves its release behind.
    """
    active = world.active
    last = next((entry for entry in reversed(active.history) if entry.outcome is Phase.PROMOTED), None)
    if last is None or last.from_colour is None or last.to_colour != active.colour:
        raise NotPossible("There is nothing to undo: the history knows no release before this one.")
    before, there = last.previous_version, _version(world, last.from_colour)
    if before != there:
        raise NotPossible(
            f"{last.from_colour} holds {there or 'no release'}, which has never served: before this release it was "
            f"{before or 'one of no known version'}. Install that one there and switch to it: "
            f"`lakegate rollout start CHART --image-tag {before or 'TAG'}`."
        )
    return last.from_colour


def settle_consumers(cluster: Cluster) -> None:
    """Say that the colour that serves consumes, before another is installed whose consumers would begin at once."""
    world = cluster.look()
    if world.active.colour is not None and world.wanted is not None and world.wanted.generation == 0:
        cluster.want(world.wanted, world.active.colour)
