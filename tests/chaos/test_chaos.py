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
    assert ledger.lost == []
    assert ledger.duplicates == []
    assert ledger.violations == []
    assert back is not None


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
