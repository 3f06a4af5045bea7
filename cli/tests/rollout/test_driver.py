"""Rollouts from beginning to end, on a simulated cluster."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from kube.api_server import Refusal
from kube.simulation import NAMES, Clock, Simulation

from lakegate.rollout import metrics, requests
from lakegate.rollout.driver import Driver
from lakegate.rollout.errors import Conflict, LostLease, NotPossible
from lakegate.rollout.states import Options, Phase, Request, Rollout

QUICK = Options(
    prepare_seconds=30, handover_seconds=10, watch_seconds=20, drain_seconds=2, load_requests=200, canary_seconds=5
)


@pytest.fixture
def cluster() -> Simulation:
    return Simulation()


@pytest.fixture
def clock(cluster: Simulation) -> Clock:
    return Clock(cluster)


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


def test_green_takes_over_at_blues_size_and_blue_goes_to_zero(cluster: Simulation, clock: Clock) -> None:
    over = run(cluster, clock, begin(cluster, clock))
    assert over.phase is Phase.PROMOTED
    assert cluster.selected == "green"
    assert (cluster.replicas("green"), cluster.replicas("green", "ingest")) == (3, 2)
    assert (cluster.replicas("blue"), cluster.replicas("blue", "ingest")) == (0, 0)
    assert cluster.consuming() == {"green"}


def test_releases_may_be_called_anything_that_is_alike_but_for_the_colour() -> None:
    cluster = Simulation(release="acme-{colour}-eu", route=True)
    clock = Clock(cluster)
    options = QUICK.model_copy(update={"canary": (20,), "route": "lakegate"})
    over = run(cluster, clock, begin(cluster, clock, options))
    assert (over.phase, cluster.selected) == (Phase.PROMOTED, "green")


def test_autoscalers_are_held_during_the_rollout_and_get_their_minimum_back(cluster: Simulation, clock: Clock) -> None:
    rollout = begin(cluster, clock)
    watching = run_to(cluster, clock, rollout, Phase.WATCHING)
    assert (minimum(cluster, "blue"), minimum(cluster, "green")) == (3, 3)
    watching.run(3600)
    assert (minimum(cluster, "blue"), minimum(cluster, "green")) == (1, 1)


def test_there_and_back_is_written_in_the_history(cluster: Simulation, clock: Clock) -> None:
    for _ in range(2):
        clock.sleep(5)
        run(cluster, clock, begin(cluster, clock))
    history = cluster.cluster().active().history
    assert [(entry.from_colour, entry.to_colour, entry.outcome) for entry in history] == [
        ("blue", "green", Phase.PROMOTED),
        ("green", "blue", Phase.PROMOTED),
    ]
    assert (history[0].previous_version, history[0].version) == ("1.0", "1.1")
    assert cluster.selected == "blue"


def install(cluster: Simulation, colour: str, version: str) -> None:
    """As helm does over a colour that does not serve."""
    for component in ("gateway", "ingest"):
        deployment = cluster.server.get("deployments", cluster.named(colour, component))
        deployment["metadata"]["labels"]["app.kubernetes.io/version"] = version
        cluster.server.put("deployments", deployment)


def test_undo_refuses_a_release_that_was_turned_back(cluster: Simulation, clock: Clock) -> None:
    run(cluster, clock, begin(cluster, clock))
    assert requests.previous(cluster.cluster().look()) == "blue"
    install(cluster, "blue", "2.0-bad")
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING, "second")
    requests.ask(cluster.cluster(), Request.ABORT)
    over = watching.run(3600)
    assert over is not None
    assert over.phase is Phase.ROLLED_BACK
    with pytest.raises(NotPossible, match=r"blue holds 2.0-bad, which has never served: .* --image-tag 1.0"):
        requests.previous(cluster.cluster().look())
    install(cluster, "blue", "1.0")
    assert requests.previous(cluster.cluster().look()) == "blue"


def test_the_history_is_bounded(cluster: Simulation, clock: Clock) -> None:
    for _ in range(23):
        clock.sleep(5)
        rollout = begin(cluster, clock)
        requests.ask(cluster.cluster(), Request.ABORT)
        run(cluster, clock, rollout)
    assert len(cluster.cluster().active().history) == 20


def test_a_new_colour_that_never_gets_ready_is_given_up(cluster: Simulation, clock: Clock) -> None:
    cluster.healthy["green"] = False
    over = run(cluster, clock, begin(cluster, clock))
    assert over.phase is Phase.ROLLED_BACK
    assert "0 of 3 pods are ready" in over.reason
    assert (cluster.selected, cluster.replicas("blue"), cluster.replicas("green")) == ("blue", 3, 0)
    assert cluster.consuming() == {"blue"}


def test_a_failing_smoke_test_ends_it_before_the_switch(cluster: Simulation, clock: Clock) -> None:
    cluster.failing.add("green")
    over = run(cluster, clock, begin(cluster, clock))
    assert (over.phase, over.switched_at) == (Phase.ROLLED_BACK, None)
    assert over.reason == "smoke test: /readyz: 503"


def test_failures_in_the_watch_window_switch_back(cluster: Simulation, clock: Clock) -> None:
    rollout = begin(cluster, clock)
    watching = run_to(cluster, clock, rollout, Phase.WATCHING)
    cluster.failing.add("green")
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert over.phase is Phase.ROLLED_BACK
    assert "requests failed, as in: 500" in over.reason
    assert (cluster.selected, cluster.replicas("blue"), cluster.replicas("green")) == ("blue", 3, 0)
    assert cluster.consuming() == {"blue"}


def test_a_short_absence_of_a_pod_in_the_watch_window_is_forgiven(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    cluster.healthy["green"] = False
    clock.sleep(1)
    watching.turn()
    cluster.healthy["green"] = True
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert over.phase is Phase.PROMOTED


def test_rollback_waits_until_the_old_colour_is_healthy(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    cluster.failing.add("green")
    cluster.healthy["blue"] = False
    clock.sleep(1)
    assert watching.run(300) is None
    assert cluster.selected == "green"
    cluster.healthy["blue"] = True
    clock.sleep(1)
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.ROLLED_BACK, "blue")


def test_half_of_the_old_colour_is_better_than_a_broken_new_one(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    blue = cluster.server.get("horizontalpodautoscalers", "lakegate-blue-gateway")
    cluster.server.put("horizontalpodautoscalers", {**blue, "spec": {**blue["spec"], "maxReplicas": 1}})
    cluster.healthy["green"] = False
    clock.sleep(1)
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.ROLLED_BACK, "blue")


@pytest.mark.parametrize(
    "phase", [phase for phase in Phase if phase.can_be_aborted and phase not in (Phase.CANARY, Phase.WAITING)]
)
def test_abort_ends_with_the_old_colour(cluster: Simulation, clock: Clock, phase: Phase) -> None:
    started = run_to(cluster, clock, begin(cluster, clock), phase)
    requests.ask(cluster.cluster(), Request.ABORT)
    over = started.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, over.reason) == (Phase.ROLLED_BACK, "aborted by request")
    assert (cluster.selected, cluster.replicas("blue"), cluster.replicas("green")) == ("blue", 3, 0)
    assert cluster.consuming() == {"blue"}


def test_once_the_old_colour_retires_there_is_no_abort(cluster: Simulation, clock: Clock) -> None:
    run_to(cluster, clock, begin(cluster, clock), Phase.RETIRING)
    with pytest.raises(NotPossible, match="undo"):
        requests.ask(cluster.cluster(), Request.ABORT)


def test_promote_ends_the_watch_window(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    before = clock.seconds
    requests.ask(cluster.cluster(), Request.PROMOTE)
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert over.phase is Phase.PROMOTED
    assert clock.seconds - before < QUICK.watch_seconds


def test_promote_is_refused_where_it_means_nothing(cluster: Simulation, clock: Clock) -> None:
    with pytest.raises(NotPossible, match="No rollout"):
        requests.ask(cluster.cluster(), Request.PROMOTE)
    begin(cluster, clock)
    with pytest.raises(NotPossible, match="pending"):
        requests.ask(cluster.cluster(), Request.PROMOTE)


def test_it_waits_for_promote_when_told_so(cluster: Simulation, clock: Clock) -> None:
    rollout = begin(cluster, clock, QUICK.model_copy(update={"wait_for_promote": True}))
    waiting = run_to(cluster, clock, rollout, Phase.WAITING)
    assert waiting.run(600) is None
    assert cluster.selected == "blue"
    requests.ask(cluster.cluster(), Request.PROMOTE)
    over = waiting.run(3600)
    assert over is not None
    assert over.phase is Phase.PROMOTED


def test_one_rollout_at_a_time(cluster: Simulation, clock: Clock) -> None:
    begin(cluster, clock)
    with pytest.raises(NotPossible, match="one at a time"):
        begin(cluster, clock)


def test_what_can_not_succeed_is_refused_at_once(cluster: Simulation, clock: Clock) -> None:
    with pytest.raises(NotPossible, match="serves already"):
        requests.begin(cluster.cluster(), QUICK, by="a test", to_colour="blue")
    cluster.server.remove("deployments", "lakegate-green-ingest")
    with pytest.raises(NotPossible, match="not whole"):
        begin(cluster, clock)
    cluster.server.remove("deployments", "lakegate-green-gateway")
    with pytest.raises(NotPossible, match="No green release"):
        begin(cluster, clock)
    cluster.server.remove("configmaps", NAMES.consumers)
    cluster.server.put("deployments", {**cluster.server.get("deployments", "lakegate-blue-gateway")})
    with pytest.raises(NotPossible, match="No green release"):
        begin(cluster, clock)


def test_the_first_colour_is_selected_without_an_old_one(cluster: Simulation, clock: Clock) -> None:
    service = cluster.server.get("services", NAMES.service)
    del service["spec"]["selector"]
    cluster.server.put("services", service)
    over = run(cluster, clock, begin(cluster, clock))
    assert (over.phase, over.from_colour, cluster.selected) == (Phase.PROMOTED, None, "blue")
    assert cluster.replicas("blue") == 3
    assert cluster.consuming() == {"blue"}


def test_a_canary_raises_the_weight_and_takes_it_out_again() -> None:
    cluster = Simulation(route=True)
    clock = Clock(cluster)
    written: list[tuple[list[int], datetime]] = []

    def note(kind: str, name: str) -> None:
        if kind == "httproutes":
            written.append((preview_weights(cluster), clock.now()))

    cluster.server.after_write = note
    rollout = begin(cluster, clock, QUICK.model_copy(update={"canary": (10, 50), "route": "lakegate"}))
    over = run(cluster, clock, rollout)
    assert over.phase is Phase.PROMOTED
    # the last one gives up the rules, which would be refused to whoever applies the chart again
    assert [weights for weights, _ in written] == [[0], [10], [50], [0], [], []]
    assert cluster.server.get("httproutes", "lakegate")["metadata"]["managedFields"] == []
    # a proxy that does not know the preview yet, or no more, would fail what is sent there
    at = [when for _, when in written]
    assert at[1] - at[0] >= timedelta(seconds=5)
    assert at[4] - at[3] >= timedelta(seconds=5)
    # the first share, too, is held for as long as was asked for
    assert at[2] - at[1] >= timedelta(seconds=QUICK.canary_seconds)
    # as the chart has it, so that its next upgrade conflicts with nothing
    (stable,) = cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
    assert "weight" not in stable


def test_an_upgrade_of_the_base_in_a_canary_takes_the_share_and_it_is_given_again() -> None:
    cluster = Simulation(route=True)
    clock = Clock(cluster)
    rollout = begin(cluster, clock, QUICK.model_copy(update={"canary": (10,), "route": "lakegate"}))
    started = run_to(cluster, clock, rollout, Phase.CANARY)
    while preview_weights(cluster) != [10]:
        started.turn()
    route = cluster.server.get("httproutes", "lakegate")
    del route["spec"]["rules"][0]["backendRefs"][1:]
    cluster.server.put("httproutes", route)
    given: list[list[int]] = []

    def note(kind: str, name: str) -> None:
        if kind == "httproutes":
            given.append(preview_weights(cluster))

    cluster.server.after_write = note
    over = started.run(3600)
    assert over is not None
    assert over.phase is Phase.PROMOTED
    assert given == [[0], [10], [0], [], []]


def test_a_bad_canary_never_gets_the_selector() -> None:
    cluster = Simulation(route=True)
    clock = Clock(cluster)
    rollout = begin(cluster, clock, QUICK.model_copy(update={"canary": (10,), "route": "lakegate"}))
    started = run_to(cluster, clock, rollout, Phase.CANARY)
    cluster.failing.add("green")
    over = started.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, over.switched_at) == (Phase.ROLLED_BACK, None)
    refs = cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in refs] == [NAMES.service]


def test_consumers_that_can_not_be_stopped_keep_the_old_colour(cluster: Simulation, clock: Clock) -> None:
    rollout = begin(cluster, clock)
    started = run_to(cluster, clock, rollout, Phase.HANDOVER)
    cluster.mute.add("blue")
    for _ in range(2000):
        current = cluster.cluster().active().rollout
        assert current is not None
        if current.phase is Phase.RESTORING:
            break
        started.turn()
    assert "not handed over in time" in current.reason
    cluster.mute.clear()
    over = started.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.ROLLED_BACK, "blue")
    assert cluster.consuming() == {"blue"}


def test_a_broken_new_colour_does_not_keep_consumers_from_coming_back(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    cluster.failing.add("green")
    cluster.mute.add("green")
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert over.phase is Phase.ROLLED_BACK
    assert cluster.consuming() == {"blue"}


def test_a_second_driver_waits_for_the_lease(cluster: Simulation, clock: Clock) -> None:
    rollout = begin(cluster, clock)
    first = run_to(cluster, clock, rollout, Phase.PREPARING)
    second = driver(cluster, clock, rollout, "second")
    second.turn()
    current = cluster.cluster().active().rollout
    assert current is not None
    assert current.driver == "first"
    assert first.run(3600) is not None


def test_a_driver_that_slept_past_its_lease_stops(cluster: Simulation, clock: Clock) -> None:
    rollout = begin(cluster, clock)
    first = run_to(cluster, clock, rollout, Phase.TESTING)
    second = driver(cluster, clock, rollout, "second")
    second.turn()
    clock.sleep(30)
    run_to(cluster, clock, rollout, Phase.WATCHING, "third")
    clock.sleep(30)
    with pytest.raises(LostLease):
        first.run(60)


def test_a_selector_that_somebody_moved_back_by_hand_is_a_rollback(cluster: Simulation, clock: Clock) -> None:
    watching = run_to(cluster, clock, begin(cluster, clock), Phase.WATCHING)
    service = cluster.server.get("services", NAMES.service)
    service["spec"]["selector"]["lakegate.io/colour"] = "blue"
    cluster.server.put("services", service)
    over = watching.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, over.reason) == (Phase.ROLLED_BACK, "somebody set the selector to blue")
    assert (cluster.selected, cluster.consuming()) == ("blue", {"blue"})


def test_a_selector_that_somebody_moved_early_is_put_back(cluster: Simulation, clock: Clock) -> None:
    started = run_to(cluster, clock, begin(cluster, clock), Phase.TESTING)
    service = cluster.server.get("services", NAMES.service)
    service["spec"]["selector"]["lakegate.io/colour"] = "green"
    cluster.server.put("services", service)
    over = started.run(3600)
    clock.sleep(1)
    assert over is not None
    assert (over.phase, cluster.selected) == (Phase.ROLLED_BACK, "blue")


def hand(cluster: Simulation, colour: str | None) -> None:
    """The selector, as a person sets it."""
    service = cluster.server.get("services", NAMES.service)
    service["spec"]["selector"].pop("lakegate.io/colour", None)
    if colour is not None:
        service["spec"]["selector"]["lakegate.io/colour"] = colour
    cluster.server.put("services", service)


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


def test_each_phase_is_told_as_an_event(cluster: Simulation, clock: Clock) -> None:
    run(cluster, clock, begin(cluster, clock))
    reasons = [event["reason"] for event in cluster.server.all("events")]
    assert reasons[:3] == ["RolloutPreparing", "RolloutTesting", "RolloutHandover"]
    assert reasons[-1] == "RolloutPromoted"


@pytest.mark.parametrize(("colour", "phase"), [("blue", Phase.RETIRING), ("green", Phase.CLEANING)])
def test_a_colour_stays_while_its_jobs_read_large_loads(
    cluster: Simulation, clock: Clock, colour: str, phase: Phase
) -> None:
    worker = {
        "metadata": {"name": "load-1", "labels": cluster.labels(colour, "worker")},
        "spec": {"containers": []},
        "status": {"phase": "Running"},
    }
    cluster.server.put("pods", worker)
    rollout = begin(cluster, clock)
    if colour == "green":
        run_to(cluster, clock, rollout, Phase.WATCHING)
        requests.ask(cluster.cluster(), Request.ABORT)
    first = run_to(cluster, clock, rollout, phase)
    since = clock.monotonic()
    while clock.monotonic() - since < 600:
        first.turn()
        clock.sleep(1)
    assert cluster.replicas(colour) == 3
    cluster.server.put("pods", {**cluster.server.get("pods", "load-1"), "status": {"phase": "Succeeded"}})
    over = run(cluster, clock, rollout)
    assert (over.phase.is_over, cluster.replicas(colour)) == (True, 0)


def test_a_load_that_never_ends_keeps_a_colour_for_half_an_hour(cluster: Simulation, clock: Clock) -> None:
    pod = {"metadata": {"name": "load-1", "labels": cluster.labels("blue", "worker")}, "spec": {"containers": []}}
    cluster.server.put("pods", {**pod, "status": {"phase": "Running"}})
    over = run(cluster, clock, begin(cluster, clock))
    assert (over.phase, cluster.replicas("blue")) == (Phase.PROMOTED, 0)
    assert 1800 < clock.monotonic() < 2000
