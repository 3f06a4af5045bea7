"""What gateways say they answered, by their own counters."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable

import httpx

from lakegate.rollout.states import Answers
from lakegate.rollout.world import GATEWAY, Pod

# What the kubelet and Prometheus ask for says nothing of what clients get, and there is much of it.
HEALTH = ("/livez", "/readyz", "/startupz")
_NOT_CLIENTS = frozenset({*HEALTH, "/metrics"})
_COUNTER = "lakegate_http_requests"
_BYTES = 8 << 20
_POD_SECONDS = 2.0
# Together, so that the Lease can be renewed; pods that are not reached in it are read another time.
_ALL_SECONDS = 5.0


class Counters:
    """Compares with what each pod said the last time; the first time there is nothing to compare with."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._seen: dict[str, Answers] = {}

    def since(self, pods: Iterable[Pod]) -> Answers | None:
        """What was answered since the last call; None when no pod could be read, so nothing is known."""
        ends = time.monotonic() + _ALL_SECONDS
        found, known = Answers(), False
        for pod in pods:
            if pod.component != GATEWAY or pod.management is None or pod.ending or time.monotonic() > ends:
                continue
            counted = _read(pod.management, self._tls)
            if counted is None:
                continue
            known = True
            before = self._seen.get(pod.name)
            self._seen[pod.name] = counted
            if before is not None:
                # fewer than before: the process is another, and all it has counted is new
                found += counted - (before if counted.requests >= before.requests else Answers())
        return found if known else None


def _read(base: str, tls: ssl.SSLContext) -> Answers | None:
    """None when the pod does not tell: readiness judges it then."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        with httpx.stream("GET", f"{base}/metrics", timeout=_POD_SECONDS, verify=tls, trust_env=False) as answer:
            text = bytearray()
            for piece in answer.iter_bytes():
                text += piece
                if len(text) > _BYTES:
                    return None
            if not answer.is_success:
                return None
    except httpx.HTTPError:
        return None
    counts: dict[str, int] = {}
    for family in text_string_to_metric_families(text.decode(errors="replace")):
        for point in family.samples if family.name == _COUNTER else ():
            if point.name.endswith("_total") and point.labels.get("route") not in _NOT_CLIENTS:
                status = point.labels.get("status", "")
                counts[status] = counts.get(status, 0) + int(point.value)
    return sum((Answers.of(status, count) for status, count in counts.items()), start=Answers())
