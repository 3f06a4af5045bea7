"""The gateway as a client sees it: reads of all three services, with a credential, and what others were answered."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import httpx

from lakegate.rollout.answers import Unanswered, ask
from lakegate.rollout.cluster import Cluster
from lakegate.rollout.counters import HEALTH, Counters
from lakegate.rollout.findings import Sample, Traffic, uncounted
from lakegate.rollout.states import SEARCH, Answers, Options, Rollout
from lakegate.rollout.world import World

# A round ends in time for the Lease to be renewed.
ROUND_SECONDS = 3.0
_ROUND_REQUESTS = 200
_WATCH_REQUESTS = 10
_ANSWER_SECONDS = 5.0
# All paths of a smoke test, which is tried again.
_SMOKE_SECONDS = 10.0
NO_CREDENTIAL = (
    "the driver has no credential, so it can't tell whether the new colour works. The Secret that "
    "base.rollout.keySecret names has to hold an API key with the scopes datasets:read and lineage:read as `key`; "
    "with --here it is LAKEGATE_KEY"
)


class Checks(Protocol):
    def smoke(self, rollout: Rollout, world: World) -> str:
        """What is wrong with the new colour; empty when each path answered well."""
        ...

    def load(self, rollout: Rollout, world: World) -> Sample:
        """A round of reads at the new colour's preview Service, bounded in number and time."""
        ...

    def usual(self, rollout: Rollout, world: World) -> Answers | None:
        """What the old colour answered its clients since the first call; None when it can't be known."""
        ...

    def traffic(self, rollout: Rollout, world: World) -> Traffic:
        """A few reads of our own, and what the new colour answered its clients since the last call."""
        ...


class HttpChecks:
    """`key` is the credential of the reads."""

    def __init__(self, cluster: Cluster, *, key: str | None = None) -> None:
        self._cluster = cluster
        # a Secret made of a file ends with the file's last line break
        self._headers = {"Authorization": f"Bearer {key.strip()}"} if key and key.strip() else {}
        # once: it reads all certificates of the machine, which takes longer than a round of requests
        self._tls = httpx.create_ssl_context()
        self._old, self._new = Counters(self._tls), Counters(self._tls)
        self._usual: Answers | None = None
        self._own = Answers()

    def smoke(self, rollout: Rollout, world: World) -> str:
        if not self._headers:
            return NO_CREDENTIAL
        base = self._cluster.address(world.services[rollout.to_colour])
        fault = asyncio.run(self._smoke(base, (*HEALTH, *rollout.options.reads, SEARCH)))
        if fault:
            return fault
        # said before the switch rather than after it: without them nobody knows what clients get
        self._new.since(world.pods_of(rollout.to_colour))
        return uncounted(self._new.unread)

    async def _smoke(self, base: str, paths: tuple[str, ...]) -> str:
        ends = time.monotonic() + _SMOKE_SECONDS
        async with self._client(base, 1) as client:
            for path in paths:
                seconds = min(_ANSWER_SECONDS, ends - time.monotonic())
                if seconds <= 0:
                    return f"{path}: not asked, the others took {_SMOKE_SECONDS:g} s"
                try:
                    status, _ = await ask(client, "GET", path, seconds=seconds)
                except Unanswered as error:
                    return f"{path}: {error}"
                if not httpx.codes.is_success(status):
                    return f"{path}: {status}"
        return ""

    def load(self, rollout: Rollout, world: World) -> Sample:
        base = self._cluster.address(world.services[rollout.to_colour])
        most = min(_ROUND_REQUESTS, rollout.options.load_requests)
        return asyncio.run(self._round(base, rollout.options, most))

    def usual(self, rollout: Rollout, world: World) -> Answers | None:
        answered = self._old.since(world.pods_of(rollout.from_colour))
        if answered is not None:
            self._usual = (self._usual or Answers()) + answered
        return self._usual

    def traffic(self, rollout: Rollout, world: World) -> Traffic:
        # first the counters: the reads of the round before are in them by now, and are taken out again
        counts, clients = self._new.since(world.pods_of(rollout.to_colour)), Answers()
        if counts is not None:
            clients, self._own = counts - self._own, Answers()
        service = self._cluster.names.service
        if world.active.colour != rollout.to_colour:
            service = world.services[rollout.to_colour]
        own = asyncio.run(self._round(self._cluster.address(service), rollout.options, _WATCH_REQUESTS))
        return Traffic(own, clients, self._new.unread)

    def _client(self, base: str, connections: int) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=base,
            headers=self._headers,
            timeout=_ANSWER_SECONDS,
            limits=httpx.Limits(max_connections=connections),
            verify=self._tls,
            trust_env=False,
        )

    async def _round(self, base: str, options: Options, most: int) -> Sample:
        """At most `most` requests, none begun after ROUND_SECONDS; each client keeps its connection."""
        ends = time.monotonic() + ROUND_SECONDS
        clients = min(options.load_concurrency, most)
        async with self._client(base, clients) as client:

            async def some(first: int) -> Sample:
                sample = Sample()
                for number in range(first, most, clients):
                    if time.monotonic() > ends:
                        break
                    path = options.reads[number % len(options.reads)]
                    sample += await self._ask(client, path, options.slow_seconds)
                return sample

            samples = await asyncio.gather(*(some(number) for number in range(clients)))
        return sum(samples, start=Sample())

    async def _ask(self, client: httpx.AsyncClient, path: str, slow_seconds: float) -> Sample:
        """Whatever is not 2xx is a failure: these reads are always answered by a colour that works."""
        began = time.monotonic()
        try:
            status, _ = await ask(client, "GET", path, seconds=_ANSWER_SECONDS)
        except Unanswered as error:
            return Sample(1, 1, 0, f"{path}: {error}"[:200])
        self._own += Answers.of(str(status))
        slow = int(time.monotonic() - began > slow_seconds)
        if not httpx.codes.is_success(status):
            return Sample(1, 1, slow, f"{path}: {status}")
        return Sample(1, 0, slow)
