"""The quick ones of `make chaos`, one round each, with the whole account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chaos.clock import library, skewed
from chaos.faults import Fault, kills
from chaos.rounds import play, prepare
from chaos.suite import Stage


@pytest.fixture(scope="module")
def stage(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if kafka.control is None:
        pytest.skip("hurts the broker: only on one of our own")
    started = Stage.start(tmp_path_factory.mktemp("chaos"), kafka)
    yield started
    started.stop()


async def survives(stage: Stage, fault: Fault, tag: str) -> None:
    ledger, back = await play(stage, fault, tag)
    verdicts = {"lost": ledger.lost, "doubled": ledger.duplicates, "violation": ledger.violations}
    wrong = [f"{verdict}: {what}" for verdict, found in verdicts.items() for what in found]
    if back is None:
        end = max(item.begun for item in ledger.operations)
        last = ", ".join(f"{kind} {end - began:.0f} s" for kind, began in sorted(ledger.served.items()))
        wrong.append(f"not all were served again; the last that was, before the end of the round: {last}")
    told = "\n".join([f"after {fault.name}:", *wrong, f"refused: {ledger.refused()}", f"logs: {stage.suite.home}/logs"])
    assert not wrong, told


async def test_what_was_acknowledged_is_there_once_after_each_kill(stage: Stage) -> None:
    await prepare(stage)
    wanted = ("kill -9 ingest", "kill -9 Kafka")
    faults = [fault for fault in kills(stage) if fault.name in wanted]
    assert len(faults) == len(wanted)
    for number, fault in enumerate(faults):
        await survives(stage, fault, f"kill{number}")


@pytest.mark.skipif(library() is None, reason="needs libfaketime (Debian: apt-get install libfaketime)")
async def test_a_clock_5_minutes_off_refuses_calls_by_name_and_loses_nothing(stage: Stage) -> None:
    await prepare(stage)
    await survives(stage, Fault("clock", skewed("lineage", 300, held_seconds=1)), "clock")
