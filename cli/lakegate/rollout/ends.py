"""How a rollout ends: the old colour goes to zero, or the traffic goes back to it and the new one does.

Functions of the same kind as those in steps.py, which decides among them.
"""

from __future__ import annotations

from datetime import datetime

from lakegate.rollout.actions import Disown, Finish, Release, Remember, Scale, Select, Step, Tell, Wait, Want, Weigh
from lakegate.rollout.findings import Findings
from lakegate.rollout.states import Phase, Request, Rollout
from lakegate.rollout.world import Route, World

# How often a pod is told in vain what its consumers are to do, where the way goes on without it: one that matters
# until about a minute of time-outs has passed, another a few times. The file tells them, too.
_MOST_TRIES, FEW_TRIES = 20, 5
# A proxy may learn of a share before it knows the backend, or lose the backend before the share: requests fail then. So
# the preview stands in the route without a share for so long, before its first and after its last.
ROUTE_SECONDS = 5.0
# A large load is read by a Job that asks its own colour's catalog and gateway to the end: so long that colour stays.
_LOADS_SECONDS = 1800.0


def short(rollout: Rollout, world: World, findings: Findings, now: datetime) -> str:
    """Why the new colour has been short of something for longer than the grace."""
    since = findings.short_since
    if since is None or (now - since).total_seconds() < rollout.options.grace_seconds:
        return ""
    return world.missing(rollout.to_colour, rollout.floors)


def retiring(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    old, new = rollout.from_colour, rollout.to_colour
    lost = short(rollout, world, findings, now) if world.missing(rollout.to_colour, {}) else ""
    if lost and old is not None and rollout.floors and not world.missing(old, rollout.floors):
        # nothing has been taken from the old colour yet, and it is the one that works; a pod less is no reason any more
        return Remember(rollout.into(Phase.REVERTING, now, reason=f"after the window: {lost}", requested=None))
    if world.active.colour != new:
        # put right as soon as it can be: nothing may end, or go to zero, with a selector that leads elsewhere
        why = world.missing(new, {})
        return Wait(f"somebody set the selector to {world.active.colour}, and {why}", needs_person=True)
    if findings.seconds(now) < rollout.options.drain_seconds:
        return Wait("connections of the old colour to end")
    leave = out_of_the_route(world.route, findings, now)
    if leave is not None:
        return leave
    loads = _large_loads(rollout, world, old, findings, now)
    if loads is not None:
        return loads
    for workload in world.workloads_of(old) if old else ():
        if workload.replicas > 0:
            why = world.missing(rollout.to_colour, rollout.floors)
            if why:
                # the old colour is all there is if this one doesn't come back
                return Wait(f"before the old colour goes: {why}", needs_person=True)
            sent = _is_sent_to(world, workload.colour)
            if sent:
                return Wait(sent, needs_person=True)
            return Scale(workload, 0)
    return _autoscalers_back(rollout, world) or Finish(rollout.into(Phase.PROMOTED, now))


def _large_loads(rollout: Rollout, world: World, colour: str | None, findings: Findings, now: datetime) -> Step | None:
    """While Jobs of a colour that is whole still read, it waits; one that is broken could not commit for them."""
    late = findings.seconds(now) >= rollout.options.drain_seconds + _LOADS_SECONDS
    if colour is None or late or any(not workload.ready for workload in world.workloads_of(colour)):
        return None
    pods = [pod.name for pod in world.workers_of(colour)]
    return Wait(f"large loads of {colour} to end: {', '.join(pods)}"[:300]) if pods else None


def _is_sent_to(world: World, colour: str) -> str:
    """Why the colour can't go to zero: an HTTPRoute leads to it by what no driver has written."""
    preview = world.services[colour]
    name = world.past.get(preview)
    return (
        f"HTTPRoute {name} leads to {preview}, which is about to go: take that rule away, or its weight" if name else ""
    )


def out_of_the_route(route: Route | None, findings: Findings, now: datetime) -> Step | None:
    """The previews: first they have no share, then they are not named, then the rules are whose they were."""
    if route is None:
        return None
    if route.share is None and route.stray is None:
        return Disown(route) if route.ours else None
    if route.share or route.stray:
        return Weigh(route, 0)
    if findings.share_seconds(now) < ROUTE_SECONDS:
        return Wait("the proxies to send nothing to the preview")
    return Weigh(route, None)


def reverting(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    old = rollout.from_colour
    if old is None:
        # of an older driver: a first rollout has nothing to go back to
        phase = Phase.RETIRING if world.active.colour == rollout.to_colour else Phase.RESTORING
        return Remember(rollout.into(phase, now, requested=None))
    why = world.missing(old, rollout.floors)
    ours = world.missing(rollout.to_colour, rollout.floors)
    # Half of the old colour is better than a new one that is broken, but an empty one is not.
    late = findings.seconds(now) >= rollout.options.grace_seconds
    if not why or (late and ours and not world.missing(old, {})):
        return Select(rollout.into(Phase.RESTORING, now), old)
    if rollout.requested is Request.PROMOTE and not ours:
        return Remember(rollout.into(Phase.WATCHING, now, requested=None).noted(f"stays, by request: {why}"))
    for workload in world.workloads_of(old):
        if workload.replicas < rollout.floors.get(workload.role, 1):
            return Scale(workload, rollout.floors.get(workload.role, 1))
    return Wait(f"the old colour can't take the traffic: {why}", needs_person=True)


def restoring(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    if world.route is not None and world.route.share:
        return Weigh(world.route, 0)
    wanted = world.wanted
    done = rollout.into(Phase.CLEANING, now)
    if not rollout.options.hand_over_consumers or wanted is None or wanted.generation == 0:
        return Remember(done)
    if wanted.colour not in (None, rollout.from_colour):
        return Want(wanted, None)
    known = findings.known_generation(wanted)
    if known:
        return Want(wanted, wanted.colour, known)
    late = findings.unconfirmed(world, wanted)
    if wanted.colour is None and rollout.from_colour is not None:
        # The new colour may be too broken to answer. Both at once do no harm: they are one group, and handle an
        # event once. Nobody at all would.
        late = [p for p in late if p.colour == rollout.to_colour and findings.tries(p, wanted) < _MOST_TRIES]
        return Tell(wanted, tuple(late)) if late else Want(wanted, rollout.from_colour)
    names = ", ".join(pod.name for pod in late)
    # a broken pod of the new colour is waited for less: it goes to zero next
    most = {rollout.from_colour: _MOST_TRIES}
    if any(findings.tries(pod, wanted) < most.get(pod.colour, FEW_TRIES) for pod in late):
        return Tell(wanted, tuple(late))
    return Remember(done.noted(f"did not confirm its consumers: {names}") if late else done)


def cleaning(rollout: Rollout, world: World, findings: Findings, now: datetime) -> Step:
    if findings.seconds(now) < rollout.options.drain_seconds:
        return Wait("connections of the new colour to end")
    leave = out_of_the_route(world.route, findings, now)
    if leave is not None:
        return leave
    loads = _large_loads(rollout, world, rollout.to_colour, findings, now)
    if loads is not None:
        return loads
    for workload in world.workloads_of(rollout.to_colour):
        if workload.replicas > 0:
            sent = _is_sent_to(world, rollout.to_colour)
            return Wait(sent, needs_person=True) if sent else Scale(workload, 0)
    return _autoscalers_back(rollout, world) or Finish(rollout.into(Phase.ROLLED_BACK, now))


def _autoscalers_back(rollout: Rollout, world: World) -> Step | None:
    for scaler in (*world.autoscalers_of(rollout.to_colour), *world.autoscalers_of(rollout.from_colour)):
        if scaler.restore is not None:
            return Release(scaler, keep=scaler.minimum != rollout.floors.get(scaler.role, 1))
        if scaler.ours:
            return Disown(scaler)
    return None
