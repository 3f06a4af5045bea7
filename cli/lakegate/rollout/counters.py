"""What gateways say they answered, by their own counters."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable

import httpx

from lakegate.rollout.answers import Unanswered, ask
from lakegate.rollout.states import Answers
from lakegate.rollout.world import GATEWAY, Pod

# What the kubelet and Prometheus ask for says nothing of what clients get, and there is much of it.
HEALTH = ("/livez", "/readyz", "/startupz")
_NOT_CLIENTS = frozenset({*HEALTH, "/metrics"})
# Only the lines of one counter are read, and nothing else of the text can be wrong: it is the judged colour's.
_DECLARED = re.compile(rb"^# TYPE lakegate_http_requests(?:_total)? counter", re.MULTILINE)
_SAMPLE = re.compile(rb"^lakegate_http_requests_total(?:\{([^\n]*)\})?[ \t]+([^ \t\n]+)", re.MULTILINE)
_LABEL = re.compile(rb'\b(route|status)="((?:[^"\\]|\\.)*)"')
_STATUS = re.compile(r"[1-5]\d\d")
_COUNT = re.compile(rb"\d{1,20}(?:\.\d{1,20})?(?:e\+?\d{1,2})?")
_MOST = 2**53
_BYTES = 4 << 20
_AT_ONCE = 4
_POD_SECONDS = 2.0
# Together, so that the Lease can be renewed; pods that are not reached in it are read another time.
_ALL_SECONDS = 4.0


class Counters:
    """Compares with what each pod said the last time; the first time there is nothing to compare with.

    `unread`: the ready gateways that did not tell at the last call, so that nothing is known of their clients.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._seen: dict[str, Answers] = {}
        self.unread: tuple[str, ...] = ()

    def since(self, pods: Iterable[Pod]) -> Answers | None:
        """What was answered since the last call; None when no pod could be read, so nothing is known."""
        gateways = [pod for pod in pods if pod.component == GATEWAY and not pod.ending]
        counts = asyncio.run(self._read_all([pod for pod in gateways if pod.management is not None]))
        self.unread = tuple(pod.name for pod in gateways if pod.ready and pod.name not in counts)
        found = Answers()
        for name, counted in counts.items():
            before = self._seen.get(name)
            self._seen[name] = counted
            if before is not None:
                # fewer than before: the process is another, and all it has counted is new
                found += counted - (before if counted.requests >= before.requests else Answers())
        return found if counts else None

    async def _read_all(self, pods: list[Pod]) -> dict[str, Answers]:
        """Of those that told."""
        some = asyncio.Semaphore(_AT_ONCE)
        ends = asyncio.get_running_loop().time() + _ALL_SECONDS
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=_POD_SECONDS) as client:

            async def read(pod: Pod) -> Answers | None:
                try:
                    async with asyncio.timeout_at(ends), some:
                        status, text = await ask(
                            client,
                            "GET",
                            f"{pod.management}/metrics",
                            seconds=_POD_SECONDS,
                            most_bytes=_BYTES,
                            headers={"accept-encoding": "identity"},
                        )
                except (Unanswered, TimeoutError):
                    return None
                return counted(text) if status == httpx.codes.OK else None

            answers = await asyncio.gather(*map(read, pods))
        return {pod.name: answer for pod, answer in zip(pods, answers, strict=True) if answer is not None}


def counted(text: bytes) -> Answers | None:
    """What the counter says; None when it is not there, or says what no counter can."""
    if _DECLARED.search(text) is None:
        return None
    counts: dict[str, int] = {}
    for sample in _SAMPLE.finditer(text):
        count = int(float(sample[2])) if _COUNT.fullmatch(sample[2]) else _MOST
        labels = {name: value.decode(errors="replace") for name, value in _LABEL.findall(sample[1] or b"")}
        status = labels.get(b"status", "")
        if count >= _MOST or _STATUS.fullmatch(status) is None:
            return None
        if labels.get(b"route") not in _NOT_CLIENTS:
            counts[status] = counts.get(status, 0) + count
    return sum((Answers.of(status, count) for status, count in counts.items()), start=Answers())
