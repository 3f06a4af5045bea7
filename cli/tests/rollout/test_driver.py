"""Rollouts from beginning to end, on a simulated cluster."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from kube.rollouts import QUICK, begin, driver, minimum, preview_weights, run, run_to
from kube.simulation import NAMES, Clock, Simulation

from lakegate.rollout import requests
from lakegate.rollout.errors import LostLease, NotPossible
from lakegate.rollout.states import Phase, Request


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
