"""HTTPRoutes that lead where no rollout has led them: what an earlier canary left, and ways past the active Service."""

from __future__ import annotations

import pytest
from kube.api_server import Refusal
from kube.rollouts import QUICK, begin, driver, run, run_to
from kube.simulation import Clock, Simulation

from lakegate.rollout.errors import NotPossible
from lakegate.rollout.states import Phase


def give(cluster: Simulation, *rules: dict[str, int], name: str = "lakegate", annotated: bool = False) -> None:
    """An HTTPRoute as somebody has written it: of each rule the Services and their weights."""
    made = [{"backendRefs": [{"name": n, "port": 80, "weight": w} for n, w in rule.items()]} for rule in rules]
    annotations = {"lakegate.io/preview": "true"} if annotated else {}
    cluster.server.put("httproutes", {"metadata": {"name": name, "annotations": annotations}, "spec": {"rules": made}})


@pytest.mark.parametrize("colour", ["blue", "green"])
@pytest.mark.parametrize("canary", [(), (20,)])
def test_weights_that_an_earlier_canary_has_left_are_taken_away_before_a_colour_comes_up(
    cluster: Simulation, clock: Clock, colour: str, canary: tuple[int, ...]
) -> None:
    give(cluster, {"lakegate": 70, f"lakegate-{colour}-gateway": 30})
    options = QUICK.model_copy(update={"canary": canary, "route": "lakegate" if canary else None})
    started = run_to(cluster, clock, begin(cluster, clock, options), Phase.PREPARING)
    refs = cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in refs] == ["lakegate"]
    # at weight 0 for a while first: proxies learn of one thing after the other
    assert clock.seconds >= 5
    over = started.run(600)
    assert over is not None
    assert (over.phase, cluster.replicas("blue")) == (Phase.PROMOTED, 0)


def test_what_is_called_alike_but_is_another_s_keeps_its_weight(cluster: Simulation, clock: Clock) -> None:
    others = [
        {"name": "lakegate", "namespace": "other", "port": 80, "weight": 5},
        {"name": "lakegate-green-gateway", "group": "example.com", "kind": "Pool", "weight": 5},
    ]
    ours = [{"name": name, "port": 80, "weight": 45} for name in ("lakegate", "lakegate-green-gateway")]
    made = {"metadata": {"name": "lakegate"}, "spec": {"rules": [{"backendRefs": others + ours}]}}
    cluster.server.put("httproutes", made)
    run_to(cluster, clock, begin(cluster, clock), Phase.PREPARING)
    refs = cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
    assert refs == [*others, {"name": "lakegate", "port": 80}]


def test_weights_that_somebody_puts_back_end_the_rollout_with_that_reason(cluster: Simulation, clock: Clock) -> None:
    give(cluster, {"lakegate": 70, "lakegate-green-gateway": 30})
    begun = begin(cluster, clock)

    def put_back(kind: str, name: str) -> None:
        if kind == "httproutes":
            clock.sleep(0.1)
            give(cluster, {"lakegate": 70, "lakegate-green-gateway": 30})

    cluster.server.after_write = put_back
    started = driver(cluster, clock, begun)
    while (rollout := cluster.cluster().active().rollout) and rollout.phase is Phase.PENDING:
        started.run(1)
    assert clock.seconds < QUICK.prepare_seconds + 10
    cluster.server.after_write = lambda kind, name: None
    over = started.run(600)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.ROLLED_BACK, "blue")
    assert "somebody puts them back" in over.reason


@pytest.mark.parametrize("name", ["lakegate", "direct"])
@pytest.mark.parametrize("colour", ["blue", "green"])
def test_a_route_past_the_active_service_is_refused_at_once(
    cluster: Simulation, clock: Clock, name: str, colour: str
) -> None:
    give(cluster, {"lakegate": 1}, {f"lakegate-{colour}-gateway": 1}, name=name)
    with pytest.raises(NotPossible, match=f"HTTPRoute {name} leads to lakegate-{colour}-gateway past the Service"):
        begin(cluster, clock)
    give(cluster, {"lakegate": 1}, {f"lakegate-{colour}-gateway": 1}, name=name, annotated=True)
    assert run(cluster, clock, begin(cluster, clock)).phase is Phase.PROMOTED


def test_a_route_that_appears_meanwhile_keeps_the_colour_it_leads_to(cluster: Simulation, clock: Clock) -> None:
    started = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    give(cluster, {"lakegate-blue-gateway": 1}, name="direct")
    assert started.run(600) is None
    assert cluster.replicas("blue") == 3
    cluster.server.remove("httproutes", "direct")
    over = started.run(600)
    assert over is not None
    assert (over.phase, cluster.replicas("blue")) == (Phase.PROMOTED, 0)


def test_a_role_without_the_right_to_list_routes_still_sees_the_one_it_may_change(
    cluster: Simulation, clock: Clock
) -> None:
    def forbid(kind: str, name: str) -> None:
        if (kind, name) == ("httproutes", ""):
            raise Refusal(403, "httproutes is forbidden")

    cluster.server.before_read = forbid
    give(cluster, {"lakegate": 70, "lakegate-green-gateway": 30})
    assert run(cluster, clock, begin(cluster, clock)).phase is Phase.PROMOTED
    refs = cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in refs] == ["lakegate"]


def test_a_cluster_without_the_gateway_api_has_no_routes_to_look_at(cluster: Simulation, clock: Clock) -> None:
    def unknown(kind: str, name: str) -> None:
        if kind == "httproutes":
            raise Refusal(404, "the server could not find the requested resource")

    cluster.server.before_read = unknown
    assert run(cluster, clock, begin(cluster, clock)).phase is Phase.PROMOTED
