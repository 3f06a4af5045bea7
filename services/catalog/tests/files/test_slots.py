"""Slots are given back, however an answer ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from lakegate_catalog.files.dialect import S3Error
from lakegate_catalog.files.slots import READ, WRITE, Slots, SlottedResponse


def test_what_there_is_no_room_for_is_told_to_slow_down() -> None:
    slots = Slots(WRITE + READ)
    with slots.held(WRITE):
        slots.take(READ)
        with pytest.raises(S3Error) as refused:
            slots.take(READ)
        assert refused.value.code == "SlowDown"
    slots.take(WRITE)


async def pieces() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize("gone", [False, True], ids=["sent", "client gone"])
async def test_an_answer_gives_its_slot_back(gone: bool) -> None:
    slots = Slots(READ)
    slots.take(READ)
    response = SlottedResponse(pieces())
    response.slots = slots

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        if gone:
            raise OSError

    scope = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.4"}}
    if gone:
        with pytest.raises(ClientDisconnect):
            await response(scope, receive, send)
    else:
        await response(scope, receive, send)
    slots.take(READ)
