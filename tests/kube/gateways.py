"""A gateway of each colour that really listens, behind the Services of a simulated cluster, and its clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle

from fastapi import FastAPI, Request, Response

from kube.simulation import NAMES, Clock, Simulation
from lakegate_chassis.testing import serving

KEY = "lgk_of_a_reader"


class Gateway:
    """Answers reads for who has the key; `broken`: prefixes of paths that it answers otherwise.

    Counts by route as a gateway does: what it answered over HTTP, and what `clients` were answered. `says` is what
    /metrics answers instead.
    """

    def __init__(self) -> None:
        self.broken: dict[str, int] = {}
        self.counted: Counter[tuple[str, int]] = Counter()
        self.clients: Sequence[int] = (200,)
        self.says: Response | None = None
        self.app = FastAPI()

        @self.app.get("/metrics")
        async def metrics() -> Response:
            if self.says is not None:
                return self.says
            lines = ["# TYPE lakegate_http_requests_total counter"]
            lines += [
                f'lakegate_http_requests_total{{method="GET",route="{route}",status="{status}"}} {count}'
                for (route, status), count in self.counted.items()
            ]
            return Response("\n".join(lines) + "\n", media_type="text/plain")

        @self.app.get("/{path:path}")
        async def anything(request: Request) -> Response:
            status = self._status(request)
            self.counted[request.url.path, status] += 1
            return Response(status_code=status)

    def _status(self, request: Request) -> int:
        path = request.url.path
        if path in ("/livez", "/readyz", "/startupz"):
            return 200
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return 401
        return next((status for prefix, status in self.broken.items() if path.startswith(prefix)), 200)


@dataclass
class Visited(Clock):
    """Each 5 seconds a client asks the colour that serves, and the kubelet asks for its health all the time.

    `pods_start_for`: so long green's are not ready, and the driver sees what blue's clients get.
    """

    gateways: dict[str, Gateway] = field(default_factory=dict)
    pods_start_for: float = 0.0
    due: float = 0.0

    def __post_init__(self) -> None:
        assert self.cluster is not None
        self.cluster.healthy["green"] = not self.pods_start_for
        self.cluster.settle()
        self._answers = {colour: cycle(gateway.clients) for colour, gateway in self.gateways.items()}

    def sleep(self, seconds: float) -> None:
        assert self.cluster is not None
        self.cluster.healthy["green"] = self.seconds + seconds >= self.pods_start_for
        super().sleep(seconds)
        assert self.cluster.selected is not None
        gateway = self.gateways[self.cluster.selected]
        gateway.counted["/readyz", 200] += 10
        self.due += 0.2 * seconds
        while self.due >= 1:
            self.due -= 1
            gateway.counted["/v1/loads", next(self._answers[self.cluster.selected])] += 1
        lead(self.cluster)


@asynccontextmanager
async def two_colours(blue: Gateway, green: Gateway) -> AsyncIterator[Simulation]:
    """A cluster of one gateway pod of each colour."""
    async with serving(blue.app) as first, serving(green.app) as second:
        ports = {"blue": int(first.rpartition(":")[2]), "green": int(second.rpartition(":")[2])}
        cluster = Simulation(ports=ports)
        deployment = cluster.server.get("deployments", "lakegate-blue-gateway")
        cluster.server.put("deployments", {**deployment, "spec": {"replicas": 1}})
        cluster.settle()
        lead(cluster)
        yield cluster


def lead(cluster: Simulation) -> None:
    """The active Service to the colour that it selects."""
    service = cluster.server.get("services", NAMES.service)
    ports = [{"name": "http", "port": cluster.ports[cluster.selected or "blue"]}]
    if service["spec"]["ports"] != ports:
        cluster.server.put("services", {**service, "spec": {**service["spec"], "ports": ports}})
