"""What a rollout makes of a colour that is up and healthy, by what it answers: real requests, a simulated cluster."""

from __future__ import annotations

import asyncio
import re

import pytest
from fastapi import Response
from kube.gateways import KEY, Gateway, Visited, two_colours
from kube.simulation import Simulation

from lakegate.rollout import requests
from lakegate.rollout.checks import HttpChecks
from lakegate.rollout.counters import counted
from lakegate.rollout.driver import Driver
from lakegate.rollout.findings import Sample, clients_fault
from lakegate.rollout.states import READS, SEARCH, Answers, Options, Phase, Rollout

OPTIONS = Options(smoke_attempts=3, drain_seconds=1, load_requests=40, slow_seconds=30)


def roll_out(cluster: Simulation, clock: Visited, *, key: str | None = KEY, options: Options = OPTIONS) -> Rollout:
    begun = requests.begin(cluster.cluster(), options, by="a test", now=clock.now())
    checks = HttpChecks(cluster.cluster(), key=key)
    over = Driver(cluster.cluster(), checks, cluster, rollout_id=begun.id, identity="one", clock=clock).run(3600)
    assert over is not None
    return over


async def outcome(blue: Gateway, green: Gateway, *, key: str | None = KEY, pods_start_for: float = 0) -> Rollout:
    """With clients who ask once in 5 seconds."""
    async with two_colours(blue, green) as cluster:
        clock = Visited(cluster, gateways={"blue": blue, "green": green}, pods_start_for=pods_start_for)
        return await asyncio.to_thread(roll_out, cluster, clock, key=key)


@pytest.mark.parametrize(
    ("path", "status"), [*zip((*READS, SEARCH), (500, 503, 401, 403, 404), strict=True), (READS[-1], 401)]
)
async def test_a_colour_that_fails_in_one_of_three_services_never_serves(path: str, status: int) -> None:
    green = Gateway()
    green.broken = {path.partition("?")[0]: status}
    over = await outcome(Gateway(), green)
    assert (over.phase, over.switched_at) == (Phase.ROLLED_BACK, None)
    assert over.reason == f"smoke test: {path}: {status}"


@pytest.mark.parametrize(("status", "said"), [(500, "answered 5xx"), (401, "answered 401 or 403, 0 of")])
async def test_a_colour_that_fails_clients_alone_is_rolled_back_at_a_low_rate(status: int, said: str) -> None:
    green = Gateway()
    green.clients = (status,)
    over = await outcome(Gateway(), green)
    assert over.phase is Phase.ROLLED_BACK
    assert over.switched_at is not None
    assert said in over.reason


async def test_a_colour_whose_routes_fail_after_the_switch_is_rolled_back_by_our_own_reads() -> None:
    green = Gateway()

    class Turning(Visited):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            assert self.cluster is not None
            green.broken = {"/v1/runs": 401} if self.cluster.selected == "green" else {}

    async with two_colours(Gateway(), green) as cluster:
        clock = Turning(cluster, gateways={"blue": Gateway(), "green": green})
        over = await asyncio.to_thread(roll_out, cluster, clock)
    assert over.phase is Phase.ROLLED_BACK
    assert over.reason.endswith("requests failed, as in: /v1/runs?limit=1: 401")


_COUNTER = '# TYPE lakegate_http_requests_total counter\nlakegate_http_requests_total{route="/v1",status="200"} '


@pytest.mark.parametrize(
    ("text", "status"), [("<html>oops</html>", 200), (f"{_COUNTER}NaN\n", 200), ("no", 503)], ids=["html", "nan", "503"]
)
@pytest.mark.parametrize("always", [True, False], ids=["always", "after-the-switch"])
async def test_a_colour_that_does_not_tell_what_clients_get_is_turned_back(
    text: str, status: int, always: bool
) -> None:
    green = Gateway()

    class Garbled(Visited):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            assert self.cluster is not None
            if self.cluster.selected == "green":
                green.says = Response(text, status_code=status)

    if always:
        green.says = Response(text, status_code=status)
    async with two_colours(Gateway(), green) as cluster:
        clock = Garbled(cluster, gateways={"blue": Gateway(), "green": green})
        over = await asyncio.to_thread(roll_out, cluster, clock)
    assert (over.phase, over.switched_at is None) == (Phase.ROLLED_BACK, always)
    assert "the counters of lakegate-green-gateway-0 can't be read" in over.reason


@pytest.mark.parametrize(
    "value", ["NaN", "+Inf", "-1", "1e99", "0x10", "1_0", "", "\x00", '1"', "9" * 400], ids=lambda value: value[:8]
)
def test_a_count_that_is_none_is_not_known(value: str) -> None:
    assert counted(f"{_COUNTER}{value or '{'}\n".encode()) is None


def test_counts_are_read_as_the_exposition_writes_them() -> None:
    assert counted(f"{_COUNTER}12\n".encode()) == Answers(ok=12)
    assert counted(f"{_COUNTER}1.234567e+06 1700000000\n".encode()) == Answers(ok=1234567)
    assert counted(_COUNTER.partition("\n")[0].encode()) == Answers()


async def test_a_healthy_colour_is_promoted_whose_clients_send_as_many_4xx_as_ever() -> None:
    blue, green = Gateway(), Gateway()
    blue.clients = green.clients = (404, 404, 404, 200)
    over = await outcome(blue, green, pods_start_for=200)
    assert over.phase is Phase.PROMOTED, over.reason
    # one in 5 seconds, for the 120 seconds of the window: neither probes nor our own reads are among them
    told = re.search(r" 0 failed; (\d+) requests of clients, 0 of them 5xx, (\d+) 4xx", over.notes[-1])
    assert told is not None, over.notes
    assert int(told[1]) <= 25
    assert int(told[2]) >= 17


async def test_the_same_share_of_4xx_is_a_surge_where_the_old_colours_clients_had_none() -> None:
    green = Gateway()
    green.clients = (404, 404, 404, 200)
    over = await outcome(Gateway(), green, pods_start_for=200)
    assert over.phase is Phase.ROLLED_BACK
    assert "answered 404, 0 of" in over.reason


@pytest.mark.parametrize(("key", "said"), [(None, "no credential"), ("lgk_of_nobody", f"{READS[0]}: 401")])
async def test_without_a_credential_nothing_is_switched(key: str | None, said: str) -> None:
    over = await outcome(Gateway(), Gateway(), key=key)
    assert (over.phase, over.switched_at) == (Phase.ROLLED_BACK, None)
    assert said in over.reason


def test_many_good_answers_of_one_kind_hide_no_bad_ones_of_the_other() -> None:
    options = Options()
    # 0.15 a second for 120 s, all failed; 4 a second, of which one in 20 failed
    assert clients_fault(Answers(failed=18), None, options)
    assert clients_fault(Answers(ok=456, failed=24), None, options)
    assert not clients_fault(Answers(ok=20, failed=4), None, options)
    assert not clients_fault(Answers(ok=995, failed=5), None, options)
    assert Sample(100, 2).fault(options)


@pytest.mark.parametrize("kind", ["refused", "missing", "rejected"])
def test_4xx_are_a_fault_when_they_surge_over_the_old_colours_share(kind: str) -> None:
    options = Options()

    def fault(new: int, of_new: int, old: int, of_old: int) -> str:
        clients = Answers(ok=of_new - new, **{kind: new})
        return clients_fault(clients, Answers(ok=of_old - old, **{kind: old}), options)

    assert fault(24, 24, 0, 0)
    assert fault(24, 24, 4, 12)
    assert fault(60, 480, 10, 480)
    assert not fault(9, 9, 0, 100)
    assert not fault(144, 480, 144, 480)
    assert not fault(144, 480, 1, 3)
    assert not fault(12, 24, 300, 1000)
    assert not clients_fault(Answers(refused=24), None, options), "the old colour's share is not known"


def test_what_an_older_driver_wrote_is_read_with_the_new_ones_options() -> None:
    """Its Job may be gone, and this driver be the one that goes on."""
    written = (
        '{"id": "1", "from_colour": "blue", "to_colour": "green", "phase": "watching", "epoch": 3,'
        '"started_at": "2026-01-01T00:00:00Z", "phase_at": "2026-01-01T00:01:00Z",'
        '"options": {"smoke_paths": ["/livez", "/readyz"], "load_paths": ["/readyz"], "watch_seconds": 9}}'
    )
    read = Rollout.model_validate_json(written)
    assert (read.options.reads, read.options.watch_seconds, read.usual) == (READS, 9, None)
    assert Rollout.model_validate_json(read.model_dump_json()) == read
