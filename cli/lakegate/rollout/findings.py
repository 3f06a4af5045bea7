"""What a driver has learned since it entered a phase. It is lost with the driver, and then learned again."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from lakegate.rollout.states import Answers, Options
from lakegate.rollout.world import Pod, Wanted, World


@dataclass(frozen=True)
class Sample:
    """Answers, how many of them were failures, and how many came late. Samples add up."""

    requests: int = 0
    failures: int = 0
    slow: int = 0
    example: str = ""

    def __add__(self, later: Sample) -> Sample:
        return Sample(
            self.requests + later.requests,
            self.failures + later.failures,
            self.slow + later.slow,
            self.example or later.example,
        )

    def fault(self, options: Options) -> str:
        """Why the sample is not good enough; empty when it is, or is empty."""
        if self.failures > self.requests * options.failed_share:
            return f"{self.failures} of {self.requests} requests failed, as in: {self.example}"
        if self.slow > self.requests * options.slow_share:
            return f"{self.slow} of {self.requests} requests took longer than {options.slow_seconds:g} s"
        return ""


@dataclass(frozen=True)
class Traffic:
    """A look at the new colour while it has traffic: our own reads and its clients' requests are judged apart.

    `unread`: its gateways whose counters could not be read, so that nothing is known of their clients.
    """

    own: Sample
    clients: Answers
    unread: tuple[str, ...] = ()

    def __add__(self, later: Traffic) -> Traffic:
        return Traffic(self.own + later.own, self.clients + later.clients, later.unread)


def uncounted(gateways: Iterable[str]) -> str:
    """What is said of gateways that don't tell what clients got; empty without any."""
    names = ", ".join(gateways)
    return f"the counters of {names[:200]} can't be read, so nobody knows what its clients get" if names else ""


# A share that rose by chance is no surge: so many standard errors are one time in 30,000. What the old colour was not
# seen to answer is taken to be 1 of 20.
_ERRORS, _PRIOR, _PRIOR_REFUSED = 4.0, 20, 1


def clients_fault(clients: Answers, usual: Answers | None, options: Options) -> str:
    """Why what clients were answered is not good enough, at any rate of requests; empty when it is.

    5xx by their share; 4xx, which clients bring about themselves, by how much more there are than the old colour's.
    """
    if clients.failed >= options.least_failures and clients.failed > clients.requests * options.failed_share:
        return f"{clients.failed} of {clients.requests} requests of clients were answered 5xx"
    if usual is None:
        return ""
    for name, word in (("refused", "401 or 403"), ("missing", "404"), ("rejected", "another 4xx")):
        new, old = getattr(clients, name), getattr(usual, name)
        # twice as many: one client that tries again and again is no surge
        if new >= 2 * options.least_failures and _surged(new, clients.requests, old, usual.requests):
            was = f"{old} of {usual.requests} by the old colour"
            return f"{new} of {clients.requests} requests of clients were answered {word}, {was}"
    return ""


def _surged(new: int, of_new: int, old: int, of_old: int) -> bool:
    """Whether two shares differ for more than chance (the two-proportion z-test)."""
    old, of_old = old + _PRIOR_REFUSED, of_old + _PRIOR
    pooled = (new + old) / (of_new + of_old)
    error = math.sqrt(pooled * (1 - pooled) * (1 / of_new + 1 / of_old))
    return new / of_new - old / of_old > _ERRORS * error


_MOST_UNREAD = 3
_RECENT_SECONDS = 600.0
# Pods take a generation that is 1,000 above theirs at most.
_MOST_LEAP = 900


@dataclass(frozen=True)
class Report:
    """What a pod said of its consumers. One without any, or one that can't be asked for them, is `settled` anyhow.

    `refused`: it knows a decision of this generation, and takes none that is not later.
    """

    generation: int
    running: bool
    settled: bool
    has_consumers: bool = True
    refused: bool = False

    def fits(self, pod: Pod, wanted: Wanted) -> bool:
        if not self.has_consumers:
            return True
        return (
            not self.refused
            and self.settled
            and self.generation >= wanted.generation
            and self.running == (pod.colour == wanted.colour)
        )


@dataclass
class Findings:
    """`begun_at`: when this driver came into the phase, so that neither another's clock nor a time without any driver
    counts. `short_since`: since when the new colour is not whole. `share_since`: since when previews have their shares.

    `asked` counts vain attempts, by pod and generation. `usual_known`: it was asked what is usual, answered or not.
    `unread` holds gateways whose counters can't be read: since when, and at how many looks one after the other.
    `recent` is judged beside the whole: hours of good answers must not hide a minute of bad ones. `refused` is why the
    last write was, `written` counts them, by what was to be written. `checked`: the last step was a look at what
    gateways answer, which may take longer than the time to the next one.
    """

    begun_at: datetime
    smoke_attempts: int = 0
    smoke_passed: bool = False
    smoke_fault: str = ""
    load: Sample = Sample()
    load_since: datetime | None = None
    own: Sample = Sample()
    clients: Answers = field(default_factory=Answers)
    usual: Answers | None = None
    usual_known: bool = False
    unread: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    checked_at: datetime | None = None
    recent: Traffic = field(default_factory=lambda: Traffic(Sample(), Answers()))
    recent_since: datetime | None = None
    refused: str = ""
    checked: bool = False
    written: dict[str, int] = field(default_factory=dict)
    short_since: datetime | None = None
    stuck_since: datetime | None = None
    share: tuple[int | None, int | None] | None = None
    share_since: datetime | None = None
    reports: dict[str, Report] = field(default_factory=dict)
    asked: dict[tuple[str, int], int] = field(default_factory=dict)

    def see(self, world: World, colour: str, floors: dict[str, int], now: datetime) -> None:
        """Start or stop the clocks of what may not last."""
        self.short_since = (self.short_since or now) if world.missing(colour, floors) else None
        troubled = any(pod.trouble for pod in world.pods_of(colour) if not pod.ending)
        self.stuck_since = (self.stuck_since or now) if troubled else None
        share = (world.route.share, world.route.stray) if world.route is not None else None
        if self.share_since is None or share != self.share:
            self.share, self.share_since = share, now

    def seconds(self, now: datetime) -> float:
        """For how long this driver has been in the phase."""
        return (now - self.begun_at).total_seconds()

    def is_due(self, now: datetime) -> bool:
        """Whether traffic is to be looked at again, which is once a second."""
        return self.checked_at is None or (now - self.checked_at).total_seconds() >= 1

    def saw_traffic(self, traffic: Traffic, now: datetime) -> None:
        self.own += traffic.own
        self.clients += traffic.clients
        since = self.recent_since or now
        if (now - since).total_seconds() < _RECENT_SECONDS:
            self.recent, self.recent_since = self.recent + traffic, since
        else:
            self.recent, self.recent_since = traffic, now
        known = {name: self.unread.get(name, (now, 0)) for name in traffic.unread}
        self.unread = {name: (since, looks + 1) for name, (since, looks) in known.items()}
        self.checked_at = now

    def uncounted(self, now: datetime, grace_seconds: float) -> str:
        """Why it is not known what clients get, for longer than the grace; one look in vain is no fault."""
        return uncounted(
            name
            for name, (since, looks) in self.unread.items()
            if looks >= _MOST_UNREAD and (now - since).total_seconds() >= grace_seconds
        )

    def share_seconds(self, now: datetime) -> float:
        """How long previews have had their shares of the route, as far as this driver knows."""
        return (now - self.share_since).total_seconds() if self.share_since is not None else 0.0

    def tries(self, pod: Pod, wanted: Wanted) -> int:
        """How often the pod was told in vain."""
        return self.asked.get((pod.name, wanted.generation), 0)

    def known_generation(self, wanted: Wanted) -> int:
        """The latest that pods know, where they refuse the wanted one for it: somebody has made the ConfigMap anew.

        0 where none does. Pods refuse what is far above what they know, so no pod may carry it there.
        """
        known = (report.generation for report in self.reports.values() if report.refused)
        return max((one for one in known if wanted.generation <= one <= wanted.generation + _MOST_LEAP), default=0)

    def unconfirmed(self, world: World, wanted: Wanted) -> list[Pod]:
        """Pods that have not said that their consumers are as wanted; one that is ending closes them by itself."""
        return [
            pod
            for pod in world.pods
            if pod.management is not None
            and not pod.ending
            and not (pod.name in self.reports and self.reports[pod.name].fits(pod, wanted))
        ]
