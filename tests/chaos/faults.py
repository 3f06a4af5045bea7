"""What is done to the suite. A fault ends itself; it returns the moment from which the way back is counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chaos import isolation
from chaos.clock import skewed
from chaos.disk import full
from chaos.groups import slow_consumer, storm
from chaos.ledger import Ledger, now
from chaos.suite import Stage

Injection = Callable[[Stage, Ledger], Awaitable[float]]

HANG_SECONDS = 20.0
# Longer than the longest deadline of a route on that way, so that the gateway has to answer for the silent service.
CUT_SECONDS = {"catalog": 65.0, "ingest": 50.0, "lineage": 35.0}
WORKERS_BESIDE = ("gateway", "catalog", "ingest", "lineage", "postgres")


@dataclass(frozen=True)
class Fault:
    """`rounds` None: as many as were asked for. `cuts`: clients may lose connections. `needs` says why it can't be."""

    name: str
    inject: Injection
    rounds: int | None = 1
    cuts: bool = False
    needs: Callable[[Stage], str | None] = lambda _: None


def kills(stage: Stage) -> list[Fault]:
    """kill -9 of everything that the supervisor runs (a worker that it learns to run is here by itself), and Kafka."""
    named = [
        Fault(f"kill -9 {name}", _kill(name), rounds=None, cuts=name == "gateway")
        for name in [*WORKERS_BESIDE, *(set(stage.processes()) - set(WORKERS_BESIDE))]
    ]
    return [*named, Fault("kill -9 Kafka", _kill_kafka, rounds=None)]


def others() -> list[Fault]:
    cuts = [
        Fault(
            f"{service}: {'cut off' if requests else 'its answers are lost'} for {seconds:g} s",
            _cut(service, seconds, requests=requests),
            needs=_isolation,
        )
        for service, seconds in CUT_SECONDS.items()
        for requests in (True, False)
    ]
    clocks = [
        Fault(
            f"clock of {service} {seconds:+d} s", skewed(service, seconds), cuts=service == "gateway", needs=_faketime
        )
        for service in ("gateway", "catalog", "ingest", "lineage")
        for seconds in (20, -20, 300, -300)
    ]
    return [
        Fault(f"Kafka hangs for {HANG_SECONDS:g} s", _hang_kafka),
        Fault("slow consumer (lineage, 1/20 of the time)", slow_consumer),
        Fault("rebalance storm", storm),
        Fault("full disk (spool and warehouse)", full, needs=_disk),
        *cuts,
        *clocks,
    ]


def _kill(name: str) -> Injection:
    async def kill(stage: Stage, _: Ledger) -> float:
        await asyncio.sleep(random.uniform(0, 0.5))
        killed = stage.kill(name)
        moment = now()
        await stage.restarted(name, killed)
        return moment

    return kill


async def _kill_kafka(stage: Stage, _: Ledger) -> float:
    assert stage.kafka.control is not None
    await asyncio.sleep(random.uniform(0, 0.5))
    await asyncio.to_thread(stage.kafka.control.kill)
    moment = now()
    await asyncio.to_thread(stage.kafka.control.start)
    return moment


async def _hang_kafka(stage: Stage, _: Ledger) -> float:
    assert stage.kafka.control is not None
    stage.kafka.control.pause()
    try:
        await asyncio.sleep(HANG_SECONDS)
    finally:
        stage.kafka.control.resume()
    return now()


def _cut(service: str, seconds: float, *, requests: bool) -> Injection:
    async def cut(stage: Stage, _: Ledger) -> float:
        isolation.drop(stage.port(service), requests=requests)
        try:
            await asyncio.sleep(seconds)
        finally:
            isolation.drop_nothing()
        return now()

    return cut


def _isolation(stage: Stage) -> str | None:
    return None if stage.isolated else isolation.why_not() or "the run is not isolated"


def _disk(stage: Stage) -> str | None:
    return None if stage.disk is not None else _isolation(stage)


def _faketime(_: Stage) -> str | None:
    from chaos.clock import library

    return None if library() is not None else "needs libfaketime (Debian: apt-get install libfaketime)"
