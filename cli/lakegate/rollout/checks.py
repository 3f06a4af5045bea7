"""The gateway as a client sees it, and what its own counters say of the others."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import httpx

from lakegate.rollout.cluster import Cluster
from lakegate.rollout.findings import Sample
from lakegate.rollout.states import Options, Phase, Rollout
from lakegate.rollout.world import GATEWAY, World

# A round ends in time for the Lease to be renewed.
ROUND_SECONDS = 3.0
_ROUND_REQUESTS = 200
_WATCH_REQUESTS = 10
_ANSWER_SECONDS = 5.0
_METRICS_BYTES = 8 << 20
_COUNTER = "lakegate_http_requests"


class Checks(Protocol):
    def smoke(self, rollout: Rollout) -> str:
        """What is wrong with the new colour; empty when each path answered well."""
        ...

    def load(self, rollout: Rollout) -> Sample:
        """A round of requests to the new colour's preview Service, bounded in number and time."""
        ...

    def traffic(self, rollout: Rollout, world: World) -> Sample:
        """What clients got since the last call, and a few requests of our own."""
        ...


class HttpChecks:
    """`key` is a credential for paths that ask for one. Counters are compared with those of the first reading."""

    def __init__(self, cluster: Cluster, *, key: str | None = None) -> None:
        self._cluster = cluster
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._seen: dict[str, tuple[float, float]] = {}

    def smoke(self, rollout: Rollout) -> str:
        base = self._cluster.address(self._cluster.names.preview_of(rollout.to_colour))
        with httpx.Client(base_url=base, headers=self._headers, timeout=_ANSWER_SECONDS, trust_env=False) as client:
            for path in rollout.options.smoke_paths:
                try:
                    answer = client.get(path)
                except httpx.HTTPError as error:
                    return f"{path}: {type(error).__name__} {error}"
                if not answer.is_success:
                    return f"{path}: {answer.status_code}"
        return ""

    def load(self, rollout: Rollout) -> Sample:
        base = self._cluster.address(self._cluster.names.preview_of(rollout.to_colour))
        most = min(_ROUND_REQUESTS, rollout.options.load_requests)
        return asyncio.run(self._round(base, rollout.options, most))

    def traffic(self, rollout: Rollout, world: World) -> Sample:
        names = self._cluster.names
        service = names.preview_of(rollout.to_colour) if rollout.phase is Phase.CANARY else names.service
        own = asyncio.run(self._round(self._cluster.address(service), rollout.options, _WATCH_REQUESTS))
        return own + self._counted(rollout, world)

    async def _round(self, base: str, options: Options, most: int) -> Sample:
        """At most `most` requests in about ROUND_SECONDS; each client keeps its connection."""
        ends = time.monotonic() + ROUND_SECONDS
        clients = min(options.load_concurrency, most)
        async with httpx.AsyncClient(
            base_url=base,
            headers=self._headers,
            timeout=_ANSWER_SECONDS,
            limits=httpx.Limits(max_connections=clients),
            trust_env=False,
        ) as client:

            async def ask(first: int) -> Sample:
                sample = Sample()
                for number in range(first, most, clients):
                    if time.monotonic() > ends:
                        break
                    path = options.load_paths[number % len(options.load_paths)]
                    sample += await _ask(client, path, options.slow_seconds)
                return sample

            samples = await asyncio.gather(*(ask(number) for number in range(clients)))
        return sum(samples, start=Sample())

    def _counted(self, rollout: Rollout, world: World) -> Sample:
        """Requests of real clients at the new colour's gateways, by their own metrics: 5xx are failures."""
        sample = Sample()
        for pod in world.pods_of(rollout.to_colour):
            if pod.component != GATEWAY or pod.management is None or pod.ending:
                continue
            counted = _read_counters(pod.management)
            if counted is None:
                continue
            before = self._seen.get(pod.name)
            self._seen[pod.name] = counted
            if before is None:
                continue
            # lower than before: the process is another, and all it has counted is new
            then = before if counted[0] >= before[0] else (0.0, 0.0)
            failed = int(counted[1] - then[1])
            sample += Sample(int(counted[0] - then[0]), failed, 0, f"5xx counted by {pod.name}" if failed else "")
        return sample


async def _ask(client: httpx.AsyncClient, path: str, slow_seconds: float) -> Sample:
    began = time.monotonic()
    try:
        answer = await client.get(path)
    except httpx.HTTPError as error:
        return Sample(1, 1, 0, f"{path}: {type(error).__name__} {error}"[:200])
    slow = int(time.monotonic() - began > slow_seconds)
    if answer.status_code >= 400:
        return Sample(1, 1, slow, f"{path}: {answer.status_code}")
    return Sample(1, 0, slow)


def _read_counters(base: str) -> tuple[float, float] | None:
    """Requests and those answered with 5xx; None when the pod does not tell: readiness judges it then."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        with httpx.stream("GET", f"{base}/metrics", timeout=2.0, trust_env=False) as answer:
            text = bytearray()
            for piece in answer.iter_bytes():
                text += piece
                if len(text) > _METRICS_BYTES:
                    return None
            if not answer.is_success:
                return None
    except httpx.HTTPError:
        return None
    total = failed = 0.0
    for family in text_string_to_metric_families(text.decode(errors="replace")):
        if family.name != _COUNTER:
            continue
        for point in family.samples:
            if point.name.endswith("_total"):
                total += point.value
                failed += point.value if point.labels.get("status", "").startswith("5") else 0
    return total, failed
