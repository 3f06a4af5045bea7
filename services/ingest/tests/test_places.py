"""Places for what lasts: no tenant takes those of all, and whatever ends gives its own back."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from prometheus_client import Gauge

from lakegate_ingest.errors import TooManyStreams
from lakegate_ingest.places import Places

GAUGE = Gauge("test_places", "of this test", registry=None)


@pytest.fixture
def places() -> Places:
    GAUGE.set(0)
    return Places(3, 2, GAUGE, kind="tails")


def is_open() -> float:
    return next(iter(GAUGE.collect())).samples[0].value


def test_no_tenant_takes_the_places_of_all(places: Places) -> None:
    with places.place("a"), places.place("a"):
        with pytest.raises(TooManyStreams, match="Your tenant has 2 tails"), places.place("a"):
            pass
        with places.place("b"), pytest.raises(TooManyStreams, match="open here"), places.place("c"):
            pass
    with places.place("a"):
        assert is_open() == 1


async def two() -> AsyncGenerator[bytes, None]:
    yield b"first"
    yield b"second"


async def failing() -> AsyncGenerator[bytes, None]:
    if is_open():
        raise ConnectionError("nobody answers")
    yield b""


async def test_a_stream_has_its_place_from_its_first_event_to_its_end(places: Places) -> None:
    events = await places.begun("a", two())
    assert is_open() == 1
    assert [event async for event in events] == [b"first", b"second"]
    assert is_open() == 0


async def test_a_stream_that_can_not_begin_is_a_problem_and_keeps_no_place(places: Places) -> None:
    with pytest.raises(ConnectionError):
        await places.begun("a", failing())
    assert is_open() == 0
    kept = [await places.begun("a", two()) for _ in range(2)]
    with pytest.raises(TooManyStreams):
        await places.begun("a", two())
    assert len(kept) == is_open() == 2
