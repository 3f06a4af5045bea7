"""Whatever happens to the driver and to the colours, the selector names a colour that can serve, and the rollout ends.

Drivers are killed before and after any write, meet conflicts and an API server that is away, sleep past their Lease
with a write in hand; colours turn unhealthy at any moment; people abort and promote, and put old weights and selectors
back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kube.simulation import NAMES, Clock, Simulation

from lakegate.rollout import objects, requests
from lakegate.rollout.driver import Driver
from lakegate.rollout.errors import LostLease, NotPossible
from lakegate.rollout.states import Options, Phase, Request, Rollout

OPTIONS = Options(
    prepare_seconds=30,
    stuck_seconds=5,
    smoke_attempts=2,
    load_requests=150,
    load_seconds=10,
    handover_seconds=8,
    confirm_seconds=8,
    watch_seconds=10,
    watch_requests=30,
    grace_seconds=3,
    drain_seconds=2,
    canary_seconds=3,
)


class Killed(BaseException):
    """kill -9: nothing of the driver's runs after it."""


class Rollouts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = Simulation(route=True)
        self.clock = Clock(self.cluster)
        self.drivers = 0
        self.driver: Driver | None = None
        self.identity = ""
        self.before: Callable[[str], None] | None = None
        self.after: Callable[[str], None] | None = None
        self.seen = self.cluster.selected
        self.whole_when_looked = dict.fromkeys(("blue", "green"), True)
        self.windows_closed: set[str] = set()
        self.over: Rollout | None = None
        self.cluster.server.before_read = self._on_read
        self.cluster.server.before_write = self._on_before_write
        self.cluster.server.after_write = self._on_after_write

    @initialize(canary=st.booleans(), wait=st.booleans())
    def begin(self, canary: bool, wait: bool) -> None:
        changes = {"canary": (20,), "route": "lakegate"} if canary else {}
        options = OPTIONS.model_copy(update={**changes, "wait_for_promote": wait})
        self.waits = wait
        self.rollout = requests.begin(self.cluster.cluster(), options, by="a test", now=self.clock.now())

    # what happens at the API server

    def _on_read(self, kind: str, name: str) -> None:
        if (kind, name) == ("services", NAMES.service):
            self.whole_when_looked = {c: self.cluster.is_whole(c) for c in self.cluster.healthy}

    def _on_before_write(self, kind: str, name: str) -> None:
        if self.before is not None and kind != "events":
            fault, self.before = self.before, None
            fault(kind)

    def _on_after_write(self, kind: str, name: str) -> None:
        self._check_write(kind, name)
        if self.after is not None and kind != "events":
            fault, self.after = self.after, None
            fault(kind)

    def _check_write(self, kind: str, name: str) -> None:
        if (kind, name) == ("services", NAMES.service):
            if self.cluster.selected != self.seen:
                self.seen = self.cluster.selected
                assert self.seen in ("blue", "green")
                assert self.whole_when_looked[self.seen], f"switched to {self.seen}, which was not whole"
            current = self.current()
            if current.phase is Phase.RETIRING:
                self.windows_closed.add(current.id)
        if kind == "deployments" and self.cluster.replicas("blue") == 0 and self.cluster.selected == "green":
            assert self.current().id in self.windows_closed, "blue was scaled down before the watch window had closed"
        if kind == "deployments":
            assert self.cluster.selected is not None
            assert self.cluster.is_whole_in_replicas(self.cluster.selected), "the colour that serves was scaled to zero"
            colour = name.split("-")[1]
            gone = self.cluster.replicas(colour, name.split("-")[2]) == 0
            assert not (gone and self.weights().get(f"lakegate-{colour}-gateway")), f"a route leads to {colour}"

    def current(self) -> Rollout:
        service = self.cluster.server.get("services", NAMES.service)
        rollout = objects.active(service).rollout
        assert rollout is not None
        return rollout

    def weights(self) -> dict[str, int]:
        refs = self.cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
        return {ref["name"]: ref.get("weight", 1) for ref in refs}

    # what the driver does

    def _start(self) -> None:
        self.drivers += 1
        self.identity = f"driver-{self.drivers}"
        self.driver = self._make(self.identity)

    def _make(self, identity: str) -> Driver:
        return Driver(
            self.cluster.cluster(),
            self.cluster,
            self.cluster,
            rollout_id=self.rollout.id,
            identity=identity,
            clock=self.clock,
        )

    def _run(self, seconds: float) -> None:
        """The driver for a while; a killed one is gone, and one that lost its Lease has stopped by itself."""
        if self.driver is None:
            self._start()
        assert self.driver is not None
        try:
            self.over = self.driver.run(seconds) or self.over
        except (Killed, LostLease):
            self.driver = None

    @rule(seconds=st.integers(1, 15))
    def drive(self, seconds: int) -> None:
        self._run(seconds)

    @rule(skip=st.integers(0, 3))
    def kill_before_a_write(self, skip: int) -> None:
        self.before = self._later(skip, "before")
        self._run(20)
        self.before = None

    @rule(skip=st.integers(0, 3))
    def kill_after_a_write(self, skip: int) -> None:
        self.after = self._later(skip, "after")
        self._run(20)
        self.after = None

    def _later(self, skip: int, when: str) -> Callable[[str], None]:
        def fault(kind: str) -> None:
            if skip:
                setattr(self, when, self._later(skip - 1, when))
                return
            raise Killed

        return fault

    @rule()
    def conflict_at_a_write(self) -> None:
        """Somebody touches everything just before the driver writes."""

        def touch(_: str) -> None:
            for kind in ("services", "deployments", "horizontalpodautoscalers", "configmaps", "httproutes"):
                for document in self.cluster.server.all(kind):
                    notes = document["metadata"].setdefault("annotations", {})
                    notes["touched"] = str(int(notes.get("touched", 0)) + 1)
                    self.cluster.server.put(kind, document)

        self.before = touch
        self._run(10)
        self.before = None

    @rule(turns=st.integers(1, 12))
    def sleep_past_the_lease_with_a_write_in_hand(self, turns: int) -> None:
        """Another driver takes over meanwhile; the write of the first one comes late."""
        stalled = {"is": False}

        def stall(_: str) -> None:
            stalled["is"] = True
            self.clock.sleep(20)
            self.drivers += 1
            second = self._make(f"driver-{self.drivers}")
            second.turn()
            self.clock.sleep(20)
            for _ in range(turns):
                if second.turn() is not None:
                    break

        self.before = stall
        self._run(10)
        self.before = None
        if stalled["is"]:
            self.driver = None

    @rule(healthy=st.booleans())
    def green_changes_health(self, healthy: bool) -> None:
        self.cluster.healthy["green"] = healthy
        self.clock.sleep(1)

    @rule(failing=st.booleans())
    def green_answers(self, failing: bool) -> None:
        (self.cluster.failing.add if failing else self.cluster.failing.discard)("green")

    @rule(mute=st.booleans())
    def green_tells_nothing_of_its_consumers(self, mute: bool) -> None:
        (self.cluster.mute.add if mute else self.cluster.mute.discard)("green")

    @rule(healthy=st.booleans())
    def blue_changes_health(self, healthy: bool) -> None:
        self.cluster.healthy["blue"] = healthy
        self.clock.sleep(1)

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.clock.sleep(seconds)

    @precondition(lambda self: not self.current().phase.is_over)
    @rule(colours=st.sets(st.sampled_from(["blue", "green"]), min_size=1))
    def weights_of_earlier_days_are_put_back(self, colours: set[str]) -> None:
        route = self.cluster.server.get("httproutes", "lakegate")
        refs = [{"name": f"lakegate-{colour}-gateway", "port": 8080, "weight": 20} for colour in sorted(colours)]
        refs.append({"name": NAMES.service, "port": 8080, "weight": 60})
        self.cluster.server.put("httproutes", {**route, "spec": {"rules": [{"backendRefs": refs}]}})

    @precondition(lambda self: not self.current().phase.is_over)
    @rule(request=st.sampled_from(Request))
    def ask(self, request: Request) -> None:
        # where the phase does not allow it, it must change nothing, which the invariants see
        with suppress(NotPossible):
            requests.ask(self.cluster.cluster(), request)

    @invariant()
    def the_selector_names_a_colour_that_is_there(self) -> None:
        assert self.cluster.selected in ("blue", "green")
        assert self.cluster.is_whole_in_replicas(self.cluster.selected)

    def teardown(self) -> None:
        if not hasattr(self, "rollout"):
            return
        self.cluster.healthy |= {"blue": True, "green": True}
        self.cluster.failing.clear()
        self.cluster.mute.clear()
        self.before = self.after = None
        self.clock.sleep(60)
        for _ in range(5):
            if not self.current().phase.is_over:
                if self.current().phase is Phase.WAITING:
                    requests.ask(self.cluster.cluster(), Request.PROMOTE)
                self._run(600)
        self.clock.sleep(1)
        over = self.current()
        serves, rests = ("green", "blue") if over.phase is Phase.PROMOTED else ("blue", "green")
        assert over.phase in (Phase.PROMOTED, Phase.ROLLED_BACK), f"stuck in {over.phase}"
        assert self.cluster.selected == serves
        assert self.cluster.is_whole(serves, floor=1)
        assert [self.cluster.replicas(rests, component) for component in ("gateway", "ingest")] == [0, 0]
        assert self.cluster.consuming() == {serves}
        assert [entry.id for entry in objects.active(self.cluster.server.get("services", NAMES.service)).history] == [
            self.rollout.id
        ]
        refs = self.cluster.server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
        assert [ref["name"] for ref in refs] == [NAMES.service]
        for scaler in self.cluster.server.all("horizontalpodautoscalers"):
            assert scaler["spec"]["minReplicas"] == 1


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
