"""What to do next: a function of what is remembered, seen and found. It writes nothing and waits for nothing.

pending -> preparing -> testing -> [canary] -> [waiting] -> handover -> switching -> confirming -> watching -> retiring
-> promoted. Before the switch trouble leads to restoring -> cleaning -> rolled back; after it, to reverting first.
From retiring on there is a way back only for as long as the old colour is whole and the new one is not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from lakegate.rollout.actions import (
    Check,
    Hold,
    Remember,
    Scale,
    Select,
    Step,
    Tell,
    Wait,
    Want,
    Weigh,
    written,
)
from lakegate.rollout.ends import (
    FEW_TRIES,
    ROUTE_SECONDS,
    cleaning,
    out_of_the_route,
    restoring,
    retiring,
    reverting,
    short,
)
from lakegate.rollout.findings import Findings, clients_fault, uncounted
from lakegate.rollout.states import Phase, Request, Rollout
from lakegate.rollout.world import World

Decide = Callable[[Rollout, World, Findings, datetime], Step]

_BEFORE = (Phase.PENDING, Phase.PREPARING, Phase.TESTING, Phase.CANARY, Phase.WAITING, Phase.HANDOVER, Phase.SWITCHING)


def decide(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    """The next step; never more than one write."""
    drifted = _drifted(rollout, world, now)
    if drifted is not None:
        return drifted
    if rollout.requested is Request.ABORT and rollout.phase.can_be_aborted:
        return _turn_back(rollout, world, now, "aborted by request")
    return _STEPS[rollout.phase](rollout, world, findings, now)


def _drifted(rollout: Rollout, world: World, now: datetime) -> Step | None:
    """Somebody else moved the selector. Back to blue by hand is a rollback; everything else is put right."""
    selected, old, new = world.active.colour, rollout.from_colour, rollout.to_colour
    reason = f"somebody set the selector to {selected}"
    if rollout.phase in _BEFORE and old is not None and selected != old:
        return Remember(rollout.into(Phase.REVERTING, now, reason=reason))
    if rollout.phase in (Phase.RESTORING, Phase.CLEANING) and selected == new:
        # what serves must not go to zero
        phase = Phase.RETIRING if old is None else Phase.REVERTING
        return Remember(rollout.into(phase, now, reason=reason))
    if rollout.phase in (Phase.CONFIRMING, Phase.WATCHING) and selected != new:
        if old is None:
            # nothing served before: there is no rollback that this could be
            return Select(rollout.noted(reason), new) if not world.missing(new, {}) else None
        phase = Phase.RESTORING if selected == old else Phase.REVERTING
        return Remember(rollout.into(phase, now, reason=reason))
    if rollout.phase is Phase.REVERTING and selected == old:
        return Remember(rollout.into(Phase.RESTORING, now))
    if rollout.phase is Phase.RETIRING and selected != new and not world.missing(new, {}):
        # the old colour may be at zero already; `undo` brings it back in order
        return Select(rollout.noted(reason), new)
    return None


def _turn_back(rollout: Rollout, world: World, now: datetime, reason: str) -> Step:
    """Leave the way forward. The request is spent: on the way back there is nothing to abort."""
    phase = Phase.RESTORING
    if world.active.colour == rollout.to_colour:
        if rollout.from_colour is None:
            return Remember(
                rollout.into(Phase.RETIRING, now, requested=None).noted(f"nothing to go back to, though: {reason}")
            )
        phase = Phase.REVERTING
    return Remember(rollout.into(phase, now, reason=reason, requested=None))


def _pending(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    """Note how much of each role the new colour has to bring: what the old one has, but never nothing."""
    if rollout.options.hand_over_consumers and rollout.from_colour is not None:
        wanted = world.wanted
        if wanted is not None and wanted.generation == 0:
            # while nobody has decided, the new colour's consumers would run as soon as its pods do
            if findings.seconds(now) > rollout.options.prepare_seconds:
                return _turn_back(rollout, world, now, f"whose consumers run can't be written: {findings.refused}")
            return Want(wanted, rollout.from_colour)
    leave = out_of_the_route(world.route, findings, now)
    if leave is not None:
        # what an earlier canary, or somebody who put its weights back, has left: no colour is to be seen untested
        if findings.seconds(now) > rollout.options.prepare_seconds:
            why = findings.refused or "somebody puts them back"
            return _turn_back(rollout, world, now, f"the weights of the HTTPRoute can't be taken away: {why}")
        return leave
    floors = {workload.role: max(1, workload.replicas) for workload in world.workloads_of(rollout.to_colour)}
    floors |= {workload.role: max(1, workload.replicas) for workload in world.workloads_of(rollout.from_colour)}
    return Remember(rollout.into(Phase.PREPARING, now, floors=floors))


def _preparing(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    if rollout.from_colour is not None and not findings.usual_known:
        # counting begins here, so that there is as much as can be to compare with
        return Check("usual")
    for scaler in (*world.autoscalers_of(rollout.to_colour), *world.autoscalers_of(rollout.from_colour)):
        floor = rollout.floors.get(scaler.role, 1)
        if scaler.maximum < floor:
            reason = f"autoscaler {scaler.name} allows {scaler.maximum} pods, {floor} are needed"
            return _turn_back(rollout, world, now, reason)
    change = _grown(rollout, world)
    why = world.missing(rollout.to_colour, rollout.floors)
    if change is None and not why:
        return Remember(rollout.into(Phase.TESTING, now))
    trouble = _trouble(rollout, world, findings, now)
    if trouble or findings.seconds(now) > rollout.options.prepare_seconds:
        if change is not None:
            why = findings.refused or f"{why or 'not held'}, and somebody puts back {written(change)}"
        return _turn_back(rollout, world, now, trouble or f"not ready in time: {why}")
    return change or Wait(why)


def _grown(rollout: Rollout, world: World) -> Hold | Scale | None:
    """What is left to do for the new colour to have the old one's size, and for both to keep it."""
    # Both colours: without traffic their autoscalers would shrink the one before the switch, the other after it.
    for scaler in (*world.autoscalers_of(rollout.to_colour), *world.autoscalers_of(rollout.from_colour)):
        floor = rollout.floors.get(scaler.role, 1)
        if scaler.minimum < floor:
            return Hold(scaler, floor)
    for workload in world.workloads_of(rollout.to_colour):
        size = max(rollout.floors.get(workload.role, 1), workload.wanted)
        if workload.replicas < size:
            return Scale(workload, size)
    return None


def _trouble(rollout: Rollout, world: World, findings: Findings, now: datetime) -> str:
    """What will not get better by waiting."""
    for workload in world.workloads_of(rollout.to_colour):
        if workload.stuck:
            return f"{workload.name}: {workload.stuck}"
    since = findings.stuck_since
    if since is None or (now - since).total_seconds() < rollout.options.stuck_seconds:
        return ""
    return next((f"{pod.name}: {pod.trouble}" for pod in world.pods_of(rollout.to_colour) if pod.trouble), "")


def _with_usual(rollout: Rollout, findings: Findings) -> Rollout:
    """What was found by now, unless more is known already: a driver that took over begins to count anew."""
    known = max((rollout.usual, findings.usual), key=lambda found: found.requests if found is not None else -1)
    return rollout.model_copy(update={"usual": known})


def _testing(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    options = rollout.options
    lost = short(rollout, world, findings, now)
    if lost:
        return _turn_back(rollout, world, now, lost)
    if not findings.smoke_passed:
        if findings.smoke_attempts >= options.smoke_attempts:
            return _turn_back(rollout, world, now, f"smoke test: {findings.smoke_fault}")
        return Check("smoke")
    if findings.load.requests < options.load_requests:
        since = findings.load_since
        if since is not None and (now - since).total_seconds() > options.load_seconds:
            reason = f"only {findings.load.requests} of {options.load_requests} requests in {options.load_seconds:g} s"
            return _turn_back(rollout, world, now, f"synthetic load: {reason}")
        return Check("load")
    fault = findings.load.fault(options)
    if fault:
        return _turn_back(rollout, world, now, f"synthetic load: {fault}")
    if world.missing(rollout.to_colour, rollout.floors):
        return Wait("a pod of the new colour went away")
    tested = rollout.noted(f"tested with {findings.load.requests} requests, {findings.load.failures} failed")
    if rollout.from_colour is not None and not findings.usual_known:
        return Check("usual")
    tested = _with_usual(tested, findings)
    if options.canary and rollout.from_colour is not None:
        return Remember(tested.into(Phase.CANARY, now))
    return Remember(_after_canary(tested, now))


def _after_canary(rollout: Rollout, now: datetime) -> Rollout:
    return rollout.into(Phase.WAITING if rollout.options.wait_for_promote else Phase.HANDOVER, now)


def _canary(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    options = rollout.options
    route = world.route
    if route is None or not route.rules:
        return _turn_back(
            rollout, world, now, f"HTTPRoute {options.route} has no rule for the active Service, or can't be read"
        )
    trouble = short(rollout, world, findings, now) or _bad_traffic(rollout, findings, now)
    if trouble:
        return _turn_back(rollout, world, now, f"canary at {route.share}%: {trouble}")
    share = options.canary[min(rollout.canary_step, len(options.canary) - 1)]
    enough = findings.own.requests >= options.watch_requests
    held = route.share == share and findings.share_seconds(now) >= options.canary_seconds
    most = 2 * (options.canary_seconds + ROUTE_SECONDS) + options.load_seconds
    if findings.seconds(now) >= most and not (held and enough):
        reason = f"only {findings.own.requests} reads to judge by"
        if not held:
            reason = findings.refused or f"somebody puts back the weights of HTTPRoute {route.name}"
        return _turn_back(rollout, world, now, f"canary: {reason}")
    if route.share is None:
        return Weigh(route, 0)
    if route.share == 0 and findings.share_seconds(now) < ROUTE_SECONDS:
        return Wait("the proxies to know the preview")
    if route.share != share:
        return Weigh(route, share)
    if rollout.requested is Request.PROMOTE:
        return Remember(rollout.into(Phase.HANDOVER, now, requested=None))
    if enough and held:
        if rollout.canary_step + 1 < len(options.canary):
            return Remember(rollout.into(Phase.CANARY, now, canary_step=rollout.canary_step + 1))
        return Remember(_after_canary(rollout.noted(f"canary: {_told(findings)}"), now))
    return _look_at_traffic(findings, now, f"{share}% for {options.canary_seconds:g} s")


def _bad_traffic(rollout: Rollout, findings: Findings, now: datetime) -> str:
    """Our own reads, and then, apart, what clients got: many good answers of the one hide no bad ones of the other.

    Gateways that don't tell what clients got are no better.
    """
    options = rollout.options
    for own, clients in ((findings.own, findings.clients), (findings.recent.own, findings.recent.clients)):
        judged = own.requests >= options.watch_requests or own.failures >= options.least_failures
        fault = (own.fault(options) if judged else "") or clients_fault(clients, rollout.usual, options)
        if fault:
            return fault
    return findings.uncounted(now, options.grace_seconds)


def _told(findings: Findings) -> str:
    own, clients = findings.own, findings.clients
    text = f"{own.requests} reads, {own.failures} failed; "
    text += f"{clients.requests} requests of clients, {clients.failed} of them 5xx"
    refused = clients.refused + clients.missing + clients.rejected
    text += f", {refused} 4xx" if refused else ""
    return f"{text}, but {uncounted(findings.unread)}" if findings.unread else text


def _look_at_traffic(findings: Findings, now: datetime, why: str) -> Step:
    """Once a second: the rest of the time there is nothing to do."""
    if findings.is_due(now):
        return Check("traffic")
    return Wait(why)


def _shared(rollout: Rollout, world: World, findings: Findings, now: datetime) -> str:
    """What is wrong with the new colour before the switch: pods, and while it has a canary's share, what it answers."""
    has_share = world.route is not None and world.route.share
    return short(rollout, world, findings, now) or (_bad_traffic(rollout, findings, now) if has_share else "")


def _waiting(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    trouble = _shared(rollout, world, findings, now)
    if trouble:
        return _turn_back(rollout, world, now, trouble)
    if rollout.requested is Request.PROMOTE:
        return Remember(rollout.into(Phase.HANDOVER, now, requested=None))
    if world.route is not None and world.route.share:
        return _look_at_traffic(findings, now, "`lakegate rollout promote`")
    return Wait("`lakegate rollout promote`")


def _handover(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    trouble = _shared(rollout, world, findings, now)
    if trouble:
        return _turn_back(rollout, world, now, trouble)
    if not rollout.options.hand_over_consumers:
        return Remember(rollout.into(Phase.SWITCHING, now))
    if world.route is not None and world.route.share and findings.is_due(now) and not findings.checked:
        # in turn with the rest: slow gateways are always due
        return Check("traffic")
    wanted = world.wanted
    if wanted is None:
        return _turn_back(rollout, world, now, "the ConfigMap that tells consumers whose turn it is is not there")
    late = findings.unconfirmed(world, wanted)
    if wanted.colour == rollout.to_colour and wanted.generation and not late:
        return Remember(rollout.into(Phase.SWITCHING, now))
    most = rollout.options.handover_seconds
    if findings.seconds(now) > 2 * most:
        reason = findings.refused or ", ".join(pod.name for pod in late)[:200] or "somebody decides otherwise"
        return _turn_back(rollout, world, now, f"consumers were not handed over in time: {reason}")
    if wanted.generation == 0 or wanted.colour not in (None, rollout.to_colour):
        return Want(wanted, None)
    known = findings.known_generation(wanted)
    if known:
        return Want(wanted, wanted.colour, known)
    if late and findings.seconds(now) > most and all(findings.tries(pod, wanted) for pod in late):
        names = ", ".join(pod.name for pod in late)[:200]
        return _turn_back(rollout, world, now, f"consumers were not handed over in time: {names}")
    return Tell(wanted, tuple(late)) if late else Want(wanted, rollout.to_colour)


def _switching(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    why = world.missing(rollout.to_colour, rollout.floors)
    if why:
        return _turn_back(rollout, world, now, f"just before the switch: {why}")
    if findings.seconds(now) > rollout.options.confirm_seconds:
        return _turn_back(rollout, world, now, f"the switch can't be written: {findings.refused}")
    if rollout.from_colour is not None and not findings.usual_known:
        return Check("usual")
    return Select(_with_usual(rollout, findings).into(Phase.CONFIRMING, now, switched_at=now), rollout.to_colour)


def _confirming(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    ours = world.gateways_of(rollout.to_colour)
    shared = world.route is not None and world.route.share
    if world.serving and world.serving <= ours and not shared:
        return Remember(rollout.into(Phase.WATCHING if rollout.from_colour else Phase.RETIRING, now))
    if findings.seconds(now) > rollout.options.confirm_seconds:
        foreign = ", ".join(sorted(world.serving - ours)) or "nothing"
        reason = f"the EndpointSlices did not follow the selector; they hold: {foreign}"
        if shared:
            reason = findings.refused or "somebody puts back the weights of the HTTPRoute"
        return _turn_back(rollout, world, now, reason)
    if world.route is not None and world.route.share:
        return Weigh(world.route, 0)
    return Wait("the EndpointSlices")


def _watching(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    options = rollout.options
    trouble = short(rollout, world, findings, now) or _bad_traffic(rollout, findings, now)
    if trouble:
        return _turn_back(rollout, world, now, trouble)
    whole = not world.missing(rollout.to_colour, rollout.floors)
    enough = findings.own.requests >= options.watch_requests
    over = findings.seconds(now) >= options.watch_seconds
    if whole and ((over and enough) or rollout.requested is Request.PROMOTE):
        return Remember(rollout.noted(f"watched {_told(findings)}").into(Phase.RETIRING, now, requested=None))
    if findings.seconds(now) >= 2 * options.watch_seconds + options.load_seconds and not enough:
        return _turn_back(rollout, world, now, f"only {findings.own.requests} reads to judge by")
    if options.hand_over_consumers and world.wanted is not None:
        # a pod that started in between may have read the ConfigMap as it was
        late = findings.unconfirmed(world, world.wanted)
        late = [pod for pod in late if findings.tries(pod, world.wanted) < FEW_TRIES]
        if late:
            return Tell(world.wanted, tuple(late))
    return _look_at_traffic(findings, now, f"{options.watch_seconds:g} s without trouble")


def _over(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    return Wait("nothing: this rollout is over")


_STEPS: dict[Phase, Decide] = {
    Phase.PENDING: _pending,
    Phase.PREPARING: _preparing,
    Phase.TESTING: _testing,
    Phase.CANARY: _canary,
    Phase.WAITING: _waiting,
    Phase.HANDOVER: _handover,
    Phase.SWITCHING: _switching,
    Phase.CONFIRMING: _confirming,
    Phase.WATCHING: _watching,
    Phase.RETIRING: retiring,
    Phase.REVERTING: reverting,
    Phase.RESTORING: restoring,
    Phase.CLEANING: cleaning,
    Phase.PROMOTED: _over,
    Phase.ROLLED_BACK: _over,
}
