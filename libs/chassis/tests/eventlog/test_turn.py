"""Which colour's consumers run: told over HTTP, read from a file, and never taken back by what is older."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Consumer
from lakegate_chassis.eventlog.turn import Decision, OutdatedDecision, Turn
from lakegate_chassis.server import management_app
from lakegate_chassis.settings import ConsumerSettings
from lakegate_chassis.testing import eventually, serving

KEY = b"a key of rollouts"


def write(file: Path, colour: str | None, generation: int) -> None:
    """As a mounted ConfigMap changes: another file takes its place."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"colour": colour, "generation": generation}))
    fresh.replace(file)


def spoil(file: Path) -> None:
    file.write_text("{")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "consumers"


@pytest.fixture
def blue(file: Path) -> Turn:
    return Turn(ConsumerSettings(colour="blue", file=file, poll_seconds=0.02))


@pytest.fixture
def keyed(file: Path, tmp_path: Path) -> Turn:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    return Turn(ConsumerSettings(colour="blue", file=file, key_file=tmp_path / "key"))


@asynccontextmanager
async def running(turn: Turn, run) -> AsyncIterator[None]:
    background = Background()
    background.start("consumer", turn.taking("consumer", run))
    background.start("turn", turn.follow)
    try:
        yield
    finally:
        await background.stop()


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_without_a_colour_a_process_always_consumes() -> None:
    assert Turn(ConsumerSettings()).is_ours


def test_a_colour_without_the_file_that_survives_a_restart_is_refused() -> None:
    with pytest.raises(ValidationError, match="go together"):
        ConsumerSettings(colour="blue")


def test_before_the_first_decision_everybody_consumes(blue: Turn) -> None:
    assert blue.is_ours


@pytest.mark.parametrize(("colour", "ours"), [("blue", True), ("green", False), (None, False)])
def test_a_process_that_starts_reads_whose_turn_it_is(file: Path, colour: str | None, ours: bool) -> None:
    write(file, colour, 3)
    assert Turn(ConsumerSettings(colour="blue", file=file)).is_ours is ours


async def test_consumers_stop_and_start_as_told(blue: Turn) -> None:
    async with running(blue, for_ever):
        await eventually(lambda: blue.standing.settled and blue.standing.groups == {"consumer": True})
        told = await blue.decide(Decision(colour=None, generation=1))
        assert (told.running, told.generation) == (False, 1)
        await eventually(lambda: blue.standing.settled and blue.standing.groups == {"consumer": False})
        await blue.decide(Decision(colour="blue", generation=2))
        await eventually(lambda: blue.standing.settled and blue.standing.groups == {"consumer": True})


async def test_being_told_again_changes_nothing(blue: Turn) -> None:
    decision = Decision(colour="green", generation=4)
    assert await blue.decide(decision) == await blue.decide(decision)


@pytest.mark.parametrize("late", [Decision(colour="blue", generation=4), Decision(colour="blue", generation=5)])
async def test_an_older_or_a_contradicting_decision_is_refused(blue: Turn, late: Decision) -> None:
    await blue.decide(Decision(colour="green", generation=5))
    with pytest.raises(OutdatedDecision):
        await blue.decide(late)
    assert not blue.is_ours


async def test_the_file_is_followed_and_an_older_one_is_not(blue: Turn, file: Path) -> None:
    async with running(blue, for_ever):
        write(file, "green", 2)
        await eventually(lambda: not blue.is_ours)
        await blue.decide(Decision(colour="blue", generation=4))
        write(file, "green", 3)
        await eventually(lambda: blue.standing.groups == {"consumer": True})
        assert blue.standing.generation == 4


async def test_a_file_that_can_not_be_read_changes_nothing(blue: Turn, file: Path) -> None:
    async with running(blue, for_ever):
        write(file, "green", 2)
        await eventually(lambda: not blue.is_ours)
        spoil(file)
        assert not blue.is_ours
        write(file, "blue", 3)
        await eventually(lambda: blue.is_ours)


async def test_a_failing_consumer_is_started_again(blue: Turn) -> None:
    runs = iter([ConnectionError("away")])
    begun = asyncio.Event()

    async def run() -> None:
        failure = next(runs, None)
        if failure is not None:
            raise failure
        begun.set()
        await for_ever()

    async with running(blue, run):
        await asyncio.wait_for(begun.wait(), 30)
    assert blue.standing.groups == {"consumer": False}


async def test_the_next_colour_goes_on_where_the_first_stopped(log, topic, file: Path) -> None:
    handled: dict[str, list[int]] = {"blue": [], "green": []}
    turns = {colour: Turn(ConsumerSettings(colour=colour, file=file, poll_seconds=0.02)) for colour in handled}
    background = Background()
    write(file, "blue", 1)

    def consumer(colour: str) -> Consumer:
        async def handle(event) -> None:
            handled[colour].append(int(event.data["event"]["number"]))

        return Consumer(log, group=topic.group, topics=[topic.name], handler=handle, poll_seconds=0.2)

    try:
        for colour, turn in turns.items():
            background.start(f"turn-{colour}", turn.follow)
            background.start(colour, turn.taking("consumer", consumer(colour).run))
        await eventually(lambda: not turns["green"].is_ours)
        await topic.publish(1, 2, 3)
        await eventually(lambda: handled["blue"] == [1, 2, 3])
        write(file, None, 2)
        await eventually(lambda: all(not t.is_ours and t.standing.settled for t in turns.values()))
        await topic.publish(4, 5)
        write(file, "green", 3)
        await eventually(lambda: handled["green"] == [4, 5], within_seconds=60)
        assert handled["blue"] == [1, 2, 3]
    finally:
        await background.stop()


def signed(decision: dict[str, Any], key: bytes = KEY) -> dict[str, Any]:
    body = json.dumps(decision).encode()
    signature = hmac.new(key, body, hashlib.sha256).hexdigest()
    return {"content": body, "headers": {"content-type": "application/json", "lakegate-signature": signature}}


async def test_the_management_listener_tells_and_takes_the_turn(keyed: Turn) -> None:
    async with (
        serving(management_app(None, keyed), lifespan="off") as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        before = (await client.get("/consumers")).json()
        assert (before["colour"], before["running"], before["generation"]) == ("blue", True, 0)
        told = await client.put("/consumers", **signed({"colour": "green", "generation": 7}))
        assert (told.status_code, told.json()["running"], told.json()["wanted"]) == (200, False, "green")
        late = await client.put("/consumers", **signed({"colour": "blue", "generation": 6}))
        assert (late.status_code, late.json()["type"]) == (409, "/problems/outdated-decision")
        wrong = await client.put("/consumers", json={"colour": "blue", "generation": -1})
        assert (wrong.status_code, wrong.json()["type"]) == (422, "/problems/invalid-request")


@pytest.mark.parametrize("how", ["no signature", "another key", "no key here"])
async def test_who_can_not_sign_has_the_file_read_again_and_no_more(keyed: Turn, file: Path, how: str) -> None:
    turn = Turn(ConsumerSettings(colour="blue", file=file)) if how == "no key here" else keyed
    decision = {"colour": "green", "generation": 7}
    said = {"json": decision} if how == "no signature" else signed(decision, b"" if how == "another key" else KEY)
    async with (
        serving(management_app(None, turn), lifespan="off") as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        refused = await client.put("/consumers", **said)
        assert (refused.status_code, refused.json()["type"]) == (401, "/problems/unauthorized")
        assert (await client.get("/consumers")).json()["generation"] == 0
        write(file, "green", 7)
        heard = await client.put("/consumers", **said)
        assert (heard.status_code, heard.json()["wanted"], heard.json()["generation"]) == (200, "green", 7)


async def test_a_generation_that_would_refuse_all_later_ones_is_no_decision(keyed: Turn) -> None:
    async with (
        serving(management_app(None, keyed), lifespan="off") as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        leap = await client.put("/consumers", **signed({"colour": None, "generation": 2**53}))
        assert (leap.status_code, leap.json()["type"]) == (422, "/problems/invalid-request")
        after = await client.put("/consumers", **signed({"colour": "green", "generation": 1}))
        assert (after.status_code, after.json()["generation"]) == (200, 1)
