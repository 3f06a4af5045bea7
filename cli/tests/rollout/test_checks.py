"""What the driver asks over HTTP: the gateway, its counters, and the consumers of a real management listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from kube.simulation import NAMES, Simulation

from lakegate.rollout import checks
from lakegate.rollout.checks import HttpChecks
from lakegate.rollout.consumers import HttpConsumers
from lakegate.rollout.errors import NotFound
from lakegate.rollout.kubernetes import KubernetesCluster
from lakegate.rollout.states import Answers, Options, Phase, Rollout
from lakegate.rollout.world import Pod, Wanted, World
from lakegate_chassis.eventlog.turn import Turn
from lakegate_chassis.server import management_app
from lakegate_chassis.settings import ConsumerSettings
from lakegate_chassis.testing import serving

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = Options(reads=("/v1/tables",), load_requests=40, slow_seconds=5)
ROLLOUT = Rollout(id="one", from_colour="blue", to_colour="green", started_at=NOW, phase_at=NOW, options=OPTIONS)


class Gateway:
    """Answers `status` to /v1/tables for who has the key, and counts what clients got."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0
        self.endless: bytes | None = None
        self.location = ""
        self.served, self.failed, self.probed = 1000, 10, 0
        self.app = FastAPI()

        @self.app.get("/v1/search")
        @self.app.get("/livez")
        @self.app.get("/readyz")
        @self.app.get("/startupz")
        async def ready() -> dict[str, str]:
            return {"status": "ok"}

        @self.app.get("/v1/tables")
        async def tables(request: Request) -> Response:
            self.asked += 1
            if self.endless is not None:
                return StreamingResponse(endless(self.endless))
            if self.location:
                return Response(status_code=302, headers={"location": self.location})
            return Response(status_code=self.status if request.headers.get("authorization") == "Bearer key" else 401)

        @self.app.get("/metrics")
        async def metrics() -> Response:
            lines = [
                "# TYPE lakegate_http_requests_total counter",
                f'lakegate_http_requests_total{{method="GET",route="/v1",status="200"}} {self.served}',
                f'lakegate_http_requests_total{{method="GET",route="/v1",status="503"}} {self.failed}',
                f'lakegate_http_requests_total{{method="GET",route="/readyz",status="200"}} {self.probed}',
            ]
            return Response("\n".join(lines) + "\n", media_type="text/plain")


async def endless(piece: bytes) -> AsyncIterator[bytes]:
    """A body that goes on for as long as anybody reads it; without a piece nothing comes after its headers."""
    while piece:
        yield piece
        await asyncio.sleep(0)
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of a busy machine would end with fewer requests."""
    monkeypatch.setattr(checks, "ROUND_SECONDS", 60.0)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def cluster(gateway: Gateway) -> AsyncIterator[KubernetesCluster]:
    """A cluster whose Services all lead to the gateway."""
    async with serving(gateway.app) as url:
        simulation = Simulation()
        for service in simulation.server.all("services"):
            service["spec"]["ports"] = [{"name": "http", "port": int(url.rpartition(":")[2])}]
            simulation.server.put("services", service)
        yield simulation.cluster()


def looked(cluster: KubernetesCluster) -> World:
    """With one gateway of the new colour, whose management listener is the gateway's own."""
    base = cluster.address(NAMES.service)
    return replace(cluster.look(), pods=(Pod("green-1", "gateway", "green", True, False, base),))


async def test_a_smoke_test_passes_when_every_path_answers(cluster: KubernetesCluster) -> None:
    assert await asyncio.to_thread(HttpChecks(cluster, key="key\n").smoke, ROLLOUT, looked(cluster)) == ""


async def test_a_smoke_test_names_the_path_that_failed(cluster: KubernetesCluster) -> None:
    assert await asyncio.to_thread(HttpChecks(cluster, key="x").smoke, ROLLOUT, looked(cluster)) == "/v1/tables: 401"


async def test_a_gateway_that_is_away_fails_the_smoke_test(cluster: KubernetesCluster) -> None:
    nowhere = replace(looked(cluster), services={"green": "lakegate-red-gateway"})
    with pytest.raises(NotFound, match="red"):
        await asyncio.to_thread(HttpChecks(cluster, key="key").smoke, ROLLOUT, nowhere)


async def test_synthetic_load_is_bounded_and_counts_failures(cluster: KubernetesCluster, gateway: Gateway) -> None:
    checks, world = HttpChecks(cluster, key="key"), looked(cluster)
    good = await asyncio.to_thread(checks.load, ROLLOUT, world)
    assert (good.requests, good.failures, gateway.asked) == (40, 0, 40)
    gateway.status = 503
    bad = await asyncio.to_thread(checks.load, ROLLOUT, world)
    assert (bad.requests, bad.failures, bad.example) == (40, 40, "/v1/tables: 503")
    assert bad.fault(OPTIONS) == "40 of 40 requests failed, as in: /v1/tables: 503"


@pytest.mark.parametrize("piece", [b" ", b"x" * 65536, b""], ids=["drips", "floods", "stalls"])
async def test_an_answer_without_an_end_is_a_failure(
    cluster: KubernetesCluster, gateway: Gateway, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = checks.ask

    async def hasty(client: httpx.AsyncClient, method: str, url: str, *, seconds: float, **more: Any) -> Any:
        # the paths before it are answered, however slowly
        return await ask(client, method, url, seconds=0.2 if url == "/v1/tables" else seconds, **more)

    monkeypatch.setattr(checks, "ask", hasty)
    asking, world = HttpChecks(cluster, key="key"), looked(cluster)
    gateway.endless = piece
    assert await asyncio.to_thread(asking.smoke, ROLLOUT, world) == "/v1/tables: no whole answer in 0.2 s"
    traffic = await asyncio.to_thread(asking.traffic, ROLLOUT, world)
    assert (traffic.own.requests, traffic.own.failures) == (10, 10)
    assert "no whole answer" in traffic.own.example


async def test_a_redirect_to_what_is_no_host_is_a_failure(cluster: KubernetesCluster, gateway: Gateway) -> None:
    gateway.location = "http://xn--zzzzzzz9.com/"
    checks, world = HttpChecks(cluster, key="key"), looked(cluster)
    assert (await asyncio.to_thread(checks.smoke, ROLLOUT, world)).startswith("/v1/tables: ")
    assert (await asyncio.to_thread(checks.load, ROLLOUT, world)).failures == 40


async def test_slow_answers_are_a_fault_of_their_own(cluster: KubernetesCluster) -> None:
    hasty = ROLLOUT.model_copy(update={"options": OPTIONS.model_copy(update={"slow_seconds": 1e-9})})
    sample = await asyncio.to_thread(HttpChecks(cluster, key="key").load, hasty, looked(cluster))
    assert (sample.failures, sample.slow) == (0, 40)
    assert "took longer" in sample.fault(OPTIONS)


async def test_what_clients_got_is_read_from_the_gateways_counters(
    cluster: KubernetesCluster, gateway: Gateway
) -> None:
    checks, world = HttpChecks(cluster, key="key"), looked(cluster)
    watching = ROLLOUT.model_copy(update={"phase": Phase.WATCHING})
    first = await asyncio.to_thread(checks.traffic, watching, world)
    assert (first.own.requests, first.own.failures, first.clients) == (10, 0, Answers())
    # the gateway counts our 10 reads, too
    gateway.served, gateway.failed, gateway.probed = 1070, 40, 500
    second = await asyncio.to_thread(checks.traffic, watching, world)
    assert (second.own.requests, second.clients) == (10, Answers(ok=60, failed=30))
    gateway.served, gateway.failed, gateway.probed = 15, 1, 3
    restarted = await asyncio.to_thread(checks.traffic, watching, world)
    assert restarted.clients == Answers(ok=5, failed=1)


async def test_what_is_usual_is_what_the_old_colour_answered_meanwhile(
    cluster: KubernetesCluster, gateway: Gateway
) -> None:
    checks, world = HttpChecks(cluster, key="key"), looked(cluster)
    old = replace(world, pods=(replace(world.pods[0], colour="blue"),))
    assert await asyncio.to_thread(checks.usual, ROLLOUT, world) is None
    assert await asyncio.to_thread(checks.usual, ROLLOUT, old) == Answers()
    gateway.served += 7
    assert await asyncio.to_thread(checks.usual, ROLLOUT, old) == Answers(ok=7)
    gateway.failed += 1
    assert await asyncio.to_thread(checks.usual, ROLLOUT, old) == Answers(ok=7, failed=1)


async def test_pods_are_told_whose_turn_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key\n")
    turn = Turn(ConsumerSettings(colour="green", file=tmp_path / "consumers", key_file=tmp_path / "key"))
    async with serving(management_app(None, turn), lifespan="off") as url:
        pod = Pod("green-1", "ingest", "green", True, False, url)
        gone = Pod("green-2", "ingest", "green", True, False, "http://127.0.0.1:1")
        stop, start = Wanted(None, 4, ""), Wanted("green", 5, "")
        assert await asyncio.to_thread(HttpConsumers(None).tell, [pod], stop) == {}
        assert await asyncio.to_thread(HttpConsumers("another").tell, [pod], stop) == {}
        assert turn.is_ours
        told = await asyncio.to_thread(HttpConsumers("a key").tell, [pod, gone], stop)
        assert told.keys() == {"green-1"}
        assert told["green-1"].fits(pod, stop)
        assert not turn.is_ours
        told = await asyncio.to_thread(HttpConsumers("a key\n").tell, [pod], start)
        assert told["green-1"].fits(pod, start)
        late = await asyncio.to_thread(HttpConsumers("a key\n").tell, [pod], stop)
        assert (late["green-1"].generation, late["green-1"].refused, late["green-1"].fits(pod, stop)) == (
            5,
            True,
            False,
        )
        assert turn.is_ours


async def test_a_service_without_consumers_has_nothing_to_hand_over() -> None:
    async with serving(management_app(None), lifespan="off") as url:
        pod, wanted = Pod("blue-1", "gateway", "blue", True, False, url), Wanted("green", 5, "")
        told = await asyncio.to_thread(HttpConsumers("a key\n").tell, [pod], wanted)
        assert told["blue-1"].fits(pod, wanted)
