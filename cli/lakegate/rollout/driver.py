"""The driver: hold the Lease, look, decide, do one thing; again, until the rollout is over.

It keeps nothing that it could not find again: kill it anywhere, and the next one goes on from the annotation.
`python -m lakegate.rollout` runs one (process.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from lakegate.rollout import metrics
from lakegate.rollout.actions import (
    Check,
    Disown,
    Finish,
    Hold,
    Release,
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
from lakegate.rollout.checks import Checks
from lakegate.rollout.cluster import Cluster
from lakegate.rollout.consumers import Consumers
from lakegate.rollout.errors import ApiAway, ApiError, Conflict, Forbidden, LostLease, NotFound, NotPossible, Refused
from lakegate.rollout.findings import Findings
from lakegate.rollout.lease import SAFE_SECONDS, Lease
from lakegate.rollout.states import HistoryEntry, Phase, Rollout
from lakegate.rollout.steps import decide
from lakegate.rollout.world import Active, World

log = logging.getLogger("lakegate.rollout")

TICK_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
# Of one thing in one phase, conflicts with controllers that write their own part of it included.
_MOST_WRITES = 20
_MOST_FAILURES = 20


class Clock(Protocol):
    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Driver:
    """Drives one rollout, and no other that may come after it. `identity` is this process's alone."""

    def __init__(
        self,
        cluster: Cluster,
        checks: Checks,
        consumers: Consumers,
        *,
        rollout_id: str,
        identity: str,
        clock: Clock | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._cluster = cluster
        self._checks = checks
        self._consumers = consumers
        self._rollout_id = rollout_id
        self._identity = identity
        self._clock = clock or SystemClock()
        self._stopping = stopping
        self._lease = Lease(cluster, identity, self._clock)
        self._adopted = False
        self._findings = Findings(self._clock.now())
        self._phase: tuple[Phase, datetime] | None = None
        self._said = ""

    def run(self, most_seconds: float) -> Rollout | None:
        """The rollout once it is over, or None when the time was, or a stop asked for. Raises RolloutError."""
        ends = self._clock.monotonic() + most_seconds
        failures = 0
        try:
            while not self._stopping() and self._clock.monotonic() < ends:
                try:
                    over = self.turn()
                    failures = 0
                except Conflict as error:
                    metrics.CONFLICTS.inc()
                    log.info("look again", extra={"error": str(error)})
                    self._clock.sleep(TICK_SECONDS / 4)
                except ApiAway as error:
                    failures += 1
                    metrics.API_FAILURES.inc()
                    log.warning("the API server is away", extra={"error": str(error)})
                    if failures > _MOST_FAILURES:
                        metrics.NEEDS_PERSON.set(1)
                    self._clock.sleep(min(TICK_SECONDS * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_SECONDS))
                else:
                    if over is not None:
                        return over
            return None
        finally:
            self._lease.let_go()

    def turn(self) -> Rollout | None:
        """Look once and do one thing; the rollout when it is over."""
        if not self._lease.hold():
            self._say("another driver holds the Lease")
            self._clock.sleep(TICK_SECONDS)
            return None
        world = self._cluster.look()
        rollout = world.active.rollout
        if rollout is None or rollout.id != self._rollout_id:
            raise NotPossible(f"rollout {self._rollout_id} is not the current one any more")
        if rollout.phase.is_over:
            return rollout
        if rollout.driver != self._identity:
            self._adopt(world, rollout)
            return None
        self._adopted = True
        return self._step(world, rollout)

    def _adopt(self, world: World, rollout: Rollout) -> None:
        """Put our name on it: whoever drove it before has now seen an older version than it must name to write."""
        if self._adopted:
            raise LostLease(f"{rollout.driver} drives this rollout now")
        taken = rollout.model_copy(update={"driver": self._identity, "epoch": rollout.epoch + 1})
        self._insist("the active Service")
        self._write(world.active, lambda: self._cluster.remember(world.active, taken))
        log.info("driving", extra={"rollout": rollout.id, "phase": rollout.phase, "epoch": taken.epoch})

    def _step(self, world: World, rollout: Rollout) -> Rollout | None:
        now = self._clock.now()
        # by time as well: one canary step follows another in the same phase
        if self._phase != (rollout.phase, rollout.phase_at):
            self._phase = (rollout.phase, rollout.phase_at)
            self._findings = Findings(now)
            self._observe(rollout)
        self._findings.see(world, rollout.to_colour, rollout.floors, now)
        step = decide(rollout, world, self._findings, now)
        self._findings.checked = isinstance(step, Check)
        what = written(step)
        in_vain = bool(what) and self._insist(what)
        metrics.NEEDS_PERSON.set(in_vain or (isinstance(step, Wait) and step.needs_person))
        metrics.STEPS.labels(type(step).__name__.lower()).inc()
        return self._do(step, world, rollout)

    def _do(self, step: Step, world: World, rollout: Rollout) -> Rollout | None:
        cluster, seen = self._cluster, world.active
        match step:
            case Wait(why=why):
                self._say(why)
                self._clock.sleep(TICK_SECONDS)
            case Check(kind=kind):
                self._check(kind, world, rollout)
            case Tell():
                self._tell(step)
            case Remember(rollout=changed):
                self._write(seen, lambda: cluster.remember(seen, changed))
                self._announce(rollout, changed)
            case Select(rollout=changed, colour=colour):
                self._write(seen, lambda: cluster.remember(seen, changed, select=colour))
                log.info("switched", extra={"colour": colour})
                self._announce(rollout, changed)
            case Finish(rollout=changed):
                entry = HistoryEntry.of(changed)
                self._write(seen, lambda: cluster.remember(seen, changed, history=(*seen.history, entry)))
                metrics.FINISHED.labels(changed.phase).inc()
                self._observe(changed)
                self._announce(rollout, changed)
                return changed
            case Scale(workload=workload, replicas=replicas):
                self._write(seen, lambda: cluster.scale(workload, replicas))
                log.info("scaled", extra={"workload": workload.name, "replicas": replicas})
            case Hold(autoscaler=autoscaler, minimum=minimum):
                self._write(seen, lambda: cluster.hold(autoscaler, minimum))
            case Release(autoscaler=autoscaler, keep=keep):
                self._write(seen, lambda: cluster.release(autoscaler, keep=keep))
            case Want(wanted=wanted, colour=colour, known=known):
                self._write(seen, lambda: cluster.want(wanted, colour, known))
                log.info("consumers", extra={"colour": colour, "generation": max(wanted.generation, known) + 1})
            case Weigh(route=route, share=share):
                self._write(seen, lambda: cluster.weigh(route, share))
                log.info("weight", extra={"route": route.name, "share": share})
            case Disown(of=owned):
                self._write(seen, lambda: cluster.disown(owned))
        return None

    def _write(self, seen: Active, write: Callable[[], None]) -> None:
        """Raises Conflict for whatever is refused: after another look it may be another step, and in time it is."""
        if not self._lease.is_safe:
            # the look took long, so it may be out of date in what the write itself does not test
            if self._cluster.active().resource_version != seen.resource_version:
                raise Conflict("the active Service has changed since it was looked at")
            if not self._lease.renew():
                raise Conflict("somebody else has taken the Lease")
            if not self._lease.is_safe:
                raise ApiAway(f"the Lease was not renewed within {SAFE_SECONDS:g} s")
        try:
            write()
        except (Conflict, Refused, Forbidden, NotFound) as error:
            self._findings.refused = str(error)
            raise Conflict(str(error)) from error
        self._findings.refused = ""

    def _insist(self, what: str) -> bool:
        """Count a write; True once it was written so often in one phase that somebody has to be told."""
        findings = self._findings
        times = findings.written[what] = findings.written.get(what, 0) + 1
        if times <= _MOST_WRITES:
            return False
        why = findings.refused or "somebody puts it back each time"
        if times == _MOST_WRITES + 1:
            log.warning("needs a person", extra={"write": what, "why": why})
            self._event(
                "RolloutNeedsPerson", f"{self._rollout_id}: {what} was written {times} times: {why}", warning=True
            )
        self._clock.sleep(TICK_SECONDS)
        return True

    def _check(self, kind: str, world: World, rollout: Rollout) -> None:
        findings = self._findings
        now = self._clock.now()
        if kind == "smoke":
            findings.smoke_attempts += 1
            findings.smoke_fault = self._checks.smoke(rollout, world)
            findings.smoke_passed = not findings.smoke_fault
            if findings.smoke_fault:
                self._say(f"smoke test: {findings.smoke_fault}")
                self._clock.sleep(TICK_SECONDS)
            return
        if kind == "usual":
            findings.usual = self._checks.usual(rollout, world)
            findings.usual_known = True
            return
        if kind == "load":
            findings.load_since = findings.load_since or now
            sample = self._checks.load(rollout, world)
            findings.load += sample
        else:
            traffic = self._checks.traffic(rollout, world)
            sample, clients = traffic.own, traffic.clients
            findings.saw_traffic(traffic, now)
            metrics.REQUESTS.labels("clients", "failed").inc(clients.failed)
            metrics.REQUESTS.labels("clients", "answered").inc(clients.requests - clients.failed)
        metrics.REQUESTS.labels(kind, "failed").inc(sample.failures)
        metrics.REQUESTS.labels(kind, "answered").inc(sample.requests - sample.failures)
        if not sample.requests:
            self._clock.sleep(TICK_SECONDS)

    def _tell(self, step: Tell) -> None:
        reports = self._consumers.tell(step.pods, step.wanted)
        for pod in step.pods:
            report = reports.get(pod.name)
            if report is not None:
                self._findings.reports[pod.name] = report
            if report is None or not report.fits(pod, step.wanted):
                tries = self._findings.tries(pod, step.wanted)
                self._findings.asked[pod.name, step.wanted.generation] = tries + 1
        late = [pod.name for pod in step.pods if self._findings.tries(pod, step.wanted)]
        if late:
            self._say(f"consumers of {', '.join(late)}")
            self._clock.sleep(TICK_SECONDS / 4)

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            log.info("waiting", extra={"for": why})

    def _announce(self, before: Rollout, after: Rollout) -> None:
        """An Event for each change of phase. It is news, not state: without it the rollout goes on."""
        if before.phase is after.phase:
            return
        back = after.phase in (Phase.REVERTING, Phase.RESTORING, Phase.CLEANING, Phase.ROLLED_BACK)
        message = f"{after.id}: {after.from_colour or 'nothing'} to {after.to_colour}: {after.phase}"
        if after.reason:
            message += f" ({after.reason})"
        log.info("phase", extra={"rollout": after.id, "phase": after.phase, "reason": after.reason})
        self._event("Rollout" + after.phase.title().replace("-", ""), message, warning=back)

    def _event(self, reason: str, message: str, *, warning: bool) -> None:
        try:
            self._cluster.tell(reason, message, warning=warning)
        except ApiError as error:
            metrics.API_FAILURES.inc()
            log.warning("no Event was written", extra={"error": str(error)})

    def _observe(self, rollout: Rollout) -> None:
        metrics.PHASE.clear()
        metrics.PHASE.labels(rollout.id, rollout.to_colour, rollout.phase).set(1)
        metrics.PHASE_SINCE.set(rollout.phase_at.timestamp())
        metrics.EPOCH.set(rollout.epoch)
