"""Which colour's gateways answer the clients while an HTTPRoute's weights hold, by the gateways' own counters."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.rollout_cluster import kubectl

# What clients ask for and a driver does not: its own requests are none of the weights' doing.
ROUTES = ("/v1/", "/api/", "/iceberg/")
_PAUSE_SECONDS = 0.5

Counts = dict[str, tuple[str, float]]


@dataclass
class Shares:
    """Answers by weight of the new colour and by the colour that gave them."""

    namespace: str
    answers: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    async def watch(self, stop: asyncio.Event) -> None:
        """Until told to stop. What was answered between two looks counts when the weight was the same before both."""
        weights: list[int] = []
        before: Counts = {}
        while not stop.is_set():
            weight = await asyncio.to_thread(self._weight)
            counts = await asyncio.to_thread(self._counts)
            if weights[-2:] == [weight, weight] and await asyncio.to_thread(self._weight) == weight:
                self._add(weight, before, counts)
            weights, before = [*weights[-1:], weight], counts
            await asyncio.sleep(_PAUSE_SECONDS)

    def _add(self, weight: int, before: Mapping[str, tuple[str, float]], counts: Counts) -> None:
        for pod, (colour, count) in counts.items():
            then = before.get(pod, (colour, count))[1]
            self.answers[weight][colour] += int(count - min(then, count))

    def _weight(self) -> int:
        """The preview's, of a hundred; 0 where only the active Service is named."""
        text = kubectl("get", "httproute", "lakegate", "-n", self.namespace, "-o", "json")
        refs = json.loads(text)["spec"]["rules"][0]["backendRefs"]
        return sum(int(ref.get("weight", 1)) for ref in refs if ref["name"] != "lakegate")

    def _counts(self) -> Counts:
        """By pod: its colour, and what it has answered to clients."""
        labels = "app.kubernetes.io/component=gateway,lakegate.io/colour"
        pods = json.loads(kubectl("get", "pods", "-n", self.namespace, "-l", labels, "-o", "json"))["items"]
        found: Counts = {}
        for pod in pods:
            if not pod["status"].get("podIP"):
                continue
            try:
                text = httpx.get(f"http://{pod['status']['podIP']}:9080/metrics", timeout=5, trust_env=False).text
            except httpx.HTTPError:
                continue
            total = sum(
                point.value
                for family in text_string_to_metric_families(text)
                for point in family.samples
                if point.name == "lakegate_http_requests_total" and point.labels["route"].startswith(ROUTES)
            )
            found[pod["metadata"]["name"]] = (pod["metadata"]["labels"]["lakegate.io/colour"], total)
        return found

    def lines(self) -> list[str]:
        said = []
        for weight, counted in sorted(self.answers.items()):
            total = sum(counted.values())
            parts = ", ".join(f"{colour} {count:,} ({count / max(total, 1):.0%})" for colour, count in counted.items())
            said.append(f"  weight {weight:>2}: {total:,} requests answered, {parts}")
        return said
