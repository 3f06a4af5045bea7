"""Rollouts on a simulated cluster in which others meddle: people, other drivers, clocks, rules, upgrades."""

from __future__ import annotations

import pytest
from kube.api_server import Refusal
from kube.rollouts import QUICK, begin, driver, minimum, preview_weights, run, run_to
from kube.simulation import NAMES, Clock, Simulation

from lakegate.rollout import metrics, requests
from lakegate.rollout.errors import Conflict, NotPossible
from lakegate.rollout.findings import Traffic
from lakegate.rollout.states import Options, Phase, Request, Rollout
from lakegate.rollout.world import World


def hand(cluster: Simulation, colour: str | None) -> None:
    """The selector, as a person sets it."""
    service = cluster.server.get("services", NAMES.service)
    service["spec"]["selector"].pop("lakegate.io/colour", None)
    if colour is not None:
        service["spec"]["selector"]["lakegate.io/colour"] = colour
    cluster.server.put("services", service)


def test_a_selector_that_somebody_moved_back_by_hand_is_a_rollback(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    hand(cluster, "blue")
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, over.reason) == (Phase.ROLLED_BACK, "somebody set the selector to blue")
    assert (cluster.selected, cluster.consuming()) == ("blue", {"blue"})


def test_a_selector_that_somebody_moved_early_is_put_back(cluster: Simulation, clock: Clock) -> None:
    started = run_to(cluster, clock, begin(cluster, clock), Phase.TESTING)
    hand(cluster, "green")
    over = started.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.ROLLED_BACK, "blue")


@pytest.mark.parametrize("phase", [Phase.CONFIRMING, Phase.RETIRING])
def test_a_selector_that_somebody_moved_in_a_first_rollout_is_put_right(
    cluster: Simulation, clock: Clock, phase: Phase
) -> None:
    hand(cluster, None)
    started = run_to(cluster, clock, begin(cluster, clock), phase)
    hand(cluster, "green")
    over = started.run(600)
    assert over is not None
    assert (over.phase, over.from_colour, cluster.selected) == (Phase.PROMOTED, None, "blue")


def test_a_first_rollout_that_an_older_driver_left_on_its_way_back_goes_on(cluster: Simulation, clock: Clock) -> None:
    hand(cluster, None)
    rollout = begin(cluster, clock)
    started = run_to(cluster, clock, rollout, Phase.CONFIRMING)
    hand(cluster, "green")
    port = cluster.cluster()
    active = port.active()
    assert active.rollout is not None
    port.remember(active, active.rollout.into(Phase.REVERTING, clock.now()))
    assert started.run(600) is not None


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.CANARY, Phase.HANDOVER, Phase.CONFIRMING, Phase.WATCHING])
def test_a_driver_that_comes_back_late_judges_anew(phase: Phase) -> None:
    cluster = Simulation(route=True)
    clock = Clock(cluster)
    rollout = begin(cluster, clock, QUICK.model_copy(update={"canary": (20,), "route": "lakegate"}))
    run_to(cluster, clock, rollout, phase)
    clock.sleep(4000)
    second = driver(cluster, clock, rollout, "second")
    back = clock.seconds
    over = second.run(3600)
    assert over is not None
    assert over.phase is Phase.PROMOTED, over.reason
    assert clock.seconds - back >= QUICK.watch_seconds


def test_a_driver_that_comes_back_late_still_finds_a_broken_colour(cluster: Simulation, clock: Clock) -> None:
    rollout = begin(cluster, clock)
    run_to(cluster, clock, rollout, Phase.WATCHING)
    clock.sleep(4000)
    cluster.failing.add("green")
    over = driver(cluster, clock, rollout, "second").run(3600)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.ROLLED_BACK, "blue")


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.HANDOVER])
def test_a_share_of_the_traffic_is_judged_until_the_switch(phase: Phase) -> None:
    cluster = Simulation(route=True)
    clock = Clock(cluster)
    changes = {"canary": (20,), "route": "lakegate", "wait_for_promote": phase is Phase.WAITING}
    started = run_to(cluster, clock, begin(cluster, clock, QUICK.model_copy(update=changes)), phase)
    assert preview_weights(cluster) == [20]
    if phase is Phase.WAITING:
        # half an hour of good answers hides no bad ones
        assert started.run(1800) is None
    else:
        cluster.mute.add("blue")
    cluster.failing.add("green")
    broken = clock.seconds
    while preview_weights(cluster) == [20]:
        started.turn()
    assert clock.seconds - broken < 10
    cluster.mute.clear()
    over = started.run(600)
    assert over is not None
    assert (over.phase, over.switched_at) == (Phase.ROLLED_BACK, None)
    assert "requests failed" in over.reason


@pytest.mark.parametrize("seconds", [0.8, 2.0, 4.5])
def test_a_slow_api_server_slows_a_rollout_and_does_not_stop_it(
    cluster: Simulation, clock: Clock, seconds: float
) -> None:
    options = Options(drain_seconds=2, load_requests=200, handover_seconds=600, confirm_seconds=600)
    rollout = begin(cluster, clock, options)

    def slow(kind: str, name: str) -> None:
        clock.sleep(seconds)

    cluster.server.before_read = cluster.server.before_write = slow
    over = driver(cluster, clock, rollout).run(20_000)
    assert over is not None
    assert over.phase is Phase.PROMOTED, over.reason


def test_a_late_write_of_a_slow_driver_is_not_made_once_another_had_the_lease(
    cluster: Simulation, clock: Clock
) -> None:
    rollout = begin(cluster, clock)
    first = run_to(cluster, clock, rollout, Phase.PREPARING)
    # it counts what is usual; its next step is a write
    first.turn()
    second = driver(cluster, clock, rollout, "second")
    second.turn()
    looks = 0

    def stall(kind: str, name: str) -> None:
        nonlocal looks
        looks += kind == "pods"
        if looks == 1 and kind == "pods":
            # long enough for the Lease to run out and the other to have it, and to give it back
            clock.sleep(20)
            second.turn()
            second.run(0)

    cluster.server.before_read = stall
    written: list[str] = []
    cluster.server.after_write = lambda kind, name: written.append(kind)
    with pytest.raises(Conflict):
        first.turn()
    assert "horizontalpodautoscalers" not in written


@pytest.mark.parametrize("kind", ["horizontalpodautoscalers", "deployments"])
@pytest.mark.parametrize("how", ["refused", "put back"])
def test_a_change_that_is_never_allowed_ends_in_time_with_its_reason(
    cluster: Simulation, clock: Clock, kind: str, how: str
) -> None:
    writes = 0
    if kind == "deployments":
        for name in names_of(cluster, "horizontalpodautoscalers", "green"):
            cluster.server.remove("horizontalpodautoscalers", name)
    stands = {name: cluster.server.get(kind, name)["spec"] for name in names_of(cluster, kind, "green")}

    def refuse(changed: str, name: str) -> None:
        nonlocal writes
        if changed == kind and name in stands:
            writes += 1
            if how == "refused":
                raise Refusal(422, "ValidatingAdmissionPolicy denied it")

    def put_back(changed: str, name: str) -> None:
        if how == "put back" and changed == kind and name in stands:
            cluster.server.put(kind, {**cluster.server.get(kind, name), "spec": stands[name]})
            clock.sleep(0.1)

    cluster.server.before_write, cluster.server.after_write = refuse, put_back
    rollout = begin(cluster, clock)
    started = driver(cluster, clock, rollout)
    while phase_of(cluster) in (Phase.PENDING, Phase.PREPARING):
        started.run(1)
    assert clock.seconds < QUICK.prepare_seconds + 10
    assert writes < 100
    cluster.server.before_write = cluster.server.after_write = lambda changed, name: None
    over = started.run(600)
    assert over is not None
    assert over.phase is Phase.ROLLED_BACK
    assert ("denied it" if how == "refused" else "puts back") in over.reason


def phase_of(cluster: Simulation) -> Phase:
    rollout = cluster.cluster().active().rollout
    assert rollout is not None
    return rollout.phase


def names_of(cluster: Simulation, kind: str, colour: str) -> list[str]:
    documents = (document["metadata"] for document in cluster.server.all(kind))
    return [meta["name"] for meta in documents if meta["labels"]["lakegate.io/colour"] == colour]


def test_what_is_written_in_vain_after_the_window_is_told_to_a_person(cluster: Simulation, clock: Clock) -> None:
    started = run_to(cluster, clock, begin(cluster, clock), Phase.RETIRING)

    def refuse(kind: str, name: str) -> None:
        if kind == "deployments" and name.startswith("lakegate-blue"):
            raise Refusal(403, "no right to scale")

    cluster.server.before_write = refuse
    assert started.run(300) is None
    (told,) = [event for event in cluster.server.all("events") if event["reason"] == "RolloutNeedsPerson"]
    assert "the replicas of lakegate-blue-gateway" in told["message"]
    assert "no right to scale" in told["message"]
    assert metrics.REGISTRY.get_sample_value("lakegate_rollout_needs_person") == 1
    cluster.server.before_write = lambda kind, name: None
    over = started.run(300)
    assert over is not None
    assert over.phase is Phase.PROMOTED
    assert metrics.REGISTRY.get_sample_value("lakegate_rollout_needs_person") == 0


def test_a_colour_that_breaks_after_its_window_is_turned_back_while_the_old_one_is_whole(
    cluster: Simulation, clock: Clock
) -> None:
    started = run_to(cluster, clock, begin(cluster, clock), Phase.RETIRING)
    cluster.healthy["green"] = False
    clock.sleep(1)
    over = started.run(600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, cluster.selected, cluster.consuming()) == (Phase.ROLLED_BACK, "blue", {"blue"})
    assert over.reason.startswith("after the window: ")


def test_a_note_that_is_no_number_keeps_nobody_from_looking(cluster: Simulation, clock: Clock) -> None:
    scaler = cluster.server.get("horizontalpodautoscalers", "lakegate-green-gateway")
    scaler["metadata"]["annotations"] = {"lakegate.io/own-minimum": "x"}
    cluster.server.put("horizontalpodautoscalers", scaler)
    assert run(cluster, clock, begin(cluster, clock)).phase is Phase.PROMOTED
    assert minimum(cluster, "green") == 1


@pytest.mark.parametrize("rollouts", [1, 2], ids=["lower", "much-lower"])
def test_consumers_are_handed_over_after_their_config_map_was_made_anew(
    cluster: Simulation, clock: Clock, rollouts: int
) -> None:
    for _ in range(rollouts):
        run(cluster, clock, begin(cluster, clock))
        clock.sleep(2)
    serves = cluster.selected
    cluster.server.remove("configmaps", NAMES.consumers)
    cluster.server.put("configmaps", {"metadata": {"name": NAMES.consumers}})
    over = run(cluster, clock, begin(cluster, clock))
    assert over.phase is Phase.PROMOTED, over.reason
    assert cluster.selected != serves
    assert cluster.consuming() == {cluster.selected}


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_a_colour_that_a_route_leads_to_does_not_go_to_zero(colour: str) -> None:
    cluster = Simulation(route=True)
    clock = Clock(cluster)
    rollout = begin(cluster, clock, QUICK.model_copy(update={"canary": (20,), "route": "lakegate"}))
    started = run_to(cluster, clock, rollout, Phase.WATCHING)
    if colour == "green":
        requests.ask(cluster.cluster(), Request.ABORT)
    route = cluster.server.get("httproutes", "lakegate")
    rules = route["spec"]["rules"]
    cluster.server.put(
        "httproutes",
        {**route, "spec": {"rules": [*rules, {"backendRefs": [{"name": cluster.named(colour, "gateway")}]}]}},
    )
    assert started.run(600) is None
    assert cluster.replicas(colour) == 3
    assert metrics.REGISTRY.get_sample_value("lakegate_rollout_needs_person") == 1
    route = cluster.server.get("httproutes", "lakegate")
    cluster.server.put("httproutes", {**route, "spec": {"rules": route["spec"]["rules"][:1]}})
    assert started.run(600) is not None
    assert cluster.replicas(colour) == 0


def test_a_minimum_that_an_upgrade_sets_meanwhile_stays(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    scaler = cluster.server.get("horizontalpodautoscalers", "lakegate-green-gateway")
    cluster.server.put("horizontalpodautoscalers", {**scaler, "spec": {**scaler["spec"], "minReplicas": 4}})
    over = watching.run(600)
    assert over is not None
    assert over.phase is Phase.PROMOTED
    assert (minimum(cluster, "green"), minimum(cluster, "blue")) == (4, 1)
    scaler = cluster.server.get("horizontalpodautoscalers", "lakegate-green-gateway")
    assert "lakegate.io/own-minimum" not in scaler["metadata"]["annotations"]


def test_consumers_are_handed_over_however_long_a_look_at_the_canary_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Simulation(route=True)
    clock = Clock(cluster)
    look = cluster.traffic

    def slow(rollout: Rollout, world: World) -> Traffic:
        clock.sleep(2)
        return look(rollout, world)

    monkeypatch.setattr(cluster, "traffic", slow)
    over = run(cluster, clock, begin(cluster, clock, QUICK.model_copy(update={"canary": (20,), "route": "lakegate"})))
    assert (over.phase, cluster.consuming()) == (Phase.PROMOTED, {"green"}), over.reason


def test_two_releases_of_one_colour_are_refused(cluster: Simulation, clock: Clock) -> None:
    labels = cluster.labels("green", "gateway")
    cluster.server.put(
        "deployments", {"metadata": {"name": "acme-green-gateway", "labels": labels}, "spec": {"replicas": 1}}
    )
    with pytest.raises(NotPossible, match="acme-green-gateway and lakegate-green-gateway are both green"):
        begin(cluster, clock)


def test_nothing_ends_while_the_selector_leads_elsewhere(cluster: Simulation, clock: Clock) -> None:
    started = run_to(cluster, clock, begin(cluster, clock), Phase.RETIRING)
    while cluster.replicas("blue") or cluster.replicas("blue", "ingest"):
        started.turn()
    cluster.healthy["green"] = False
    hand(cluster, "blue")
    clock.sleep(1)
    assert started.run(60) is None
    assert metrics.REGISTRY.get_sample_value("lakegate_rollout_needs_person") == 1
    cluster.healthy["green"] = True
    clock.sleep(1)
    over = started.run(60)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.PROMOTED, "green")


def test_what_a_driver_has_changed_is_its_own_no_longer_than_the_rollout(cluster: Simulation, clock: Clock) -> None:
    assert run(cluster, clock, begin(cluster, clock)).phase is Phase.PROMOTED
    for scaler in cluster.server.all("horizontalpodautoscalers"):
        # who applies another minimum next would be refused it
        assert not scaler["metadata"].get("managedFields"), scaler["metadata"]["name"]


def test_a_colour_comes_up_at_what_its_values_ask_for_where_that_is_more(cluster: Simulation, clock: Clock) -> None:
    run(cluster, clock, begin(cluster, clock))
    clock.sleep(2)
    # helm, of a colour at zero: the number stays, and is noted
    for component, count in (("gateway", "4"), ("ingest", "many")):
        deployment = cluster.server.get("deployments", f"lakegate-blue-{component}")
        deployment["metadata"]["annotations"] = {"lakegate.io/replicas": count}
        cluster.server.put("deployments", deployment)
    assert run(cluster, clock, begin(cluster, clock)).phase is Phase.PROMOTED
    assert (cluster.replicas("blue"), cluster.replicas("blue", "ingest")) == (4, 2)
    assert (cluster.replicas("green"), cluster.replicas("green", "ingest")) == (0, 0)
