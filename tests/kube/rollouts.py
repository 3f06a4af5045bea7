"""A rollout on the simulated cluster, begun and brought on."""

from __future__ import annotations

from kube.simulation import NAMES, Clock, Simulation
from lakegate.rollout import requests
from lakegate.rollout.driver import Driver
from lakegate.rollout.states import Options, Phase, Rollout

QUICK = Options(
    prepare_seconds=30, handover_seconds=10, watch_seconds=20, drain_seconds=2, load_requests=200, canary_seconds=5
)


def begin(cluster: Simulation, clock: Clock, options: Options = QUICK) -> Rollout:
    return requests.begin(cluster.cluster(), options, by="a test", now=clock.now())


def driver(cluster: Simulation, clock: Clock, rollout: Rollout, identity: str = "first") -> Driver:
    return Driver(cluster.cluster(), cluster, cluster, rollout_id=rollout.id, identity=identity, clock=clock)


def run(cluster: Simulation, clock: Clock, rollout: Rollout) -> Rollout:
    over = driver(cluster, clock, rollout).run(3600)
    assert over is not None
    clock.sleep(1)
    return over


def run_to(cluster: Simulation, clock: Clock, rollout: Rollout, phase: Phase, identity: str = "first") -> Driver:
    """A driver that has brought the rollout into this phase."""
    started = driver(cluster, clock, rollout, identity)
    for _ in range(500):
        current = cluster.cluster().active().rollout
        assert current is not None
        if current.phase is phase:
            return started
        started.turn()
    raise AssertionError(f"never {phase}")


def preview_weights(cluster: Simulation) -> list[int]:
    refs = cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
    return [ref["weight"] for ref in refs if ref["name"] != NAMES.service]


def minimum(cluster: Simulation, colour: str) -> int:
    read: int = cluster.server.get("horizontalpodautoscalers", f"lakegate-{colour}-gateway")["spec"]["minReplicas"]
    return read
