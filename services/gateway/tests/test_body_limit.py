"""Bodies of the gateway's own paths, from clients that nobody knows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lakegate_chassis import middleware
from lakegate_chassis.testing import eventually

from .conftest import trickle

PATHS = ["/v1/keys", "/v1/users", "/v1/nothing"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_length_over_the_limit_is_413_before_a_byte_is_read(gateway: Any, path: str) -> None:
    lines = f"POST {path} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2000000000\r\n\r\n"
    reader, writer = await gateway.raw(lines.encode())
    text = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert text.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in text
    assert b'"limit_bytes":65536' in text


async def test_a_client_that_sends_without_asking_sees_its_413(gateway: Any) -> None:
    answer = await gateway.client().post("/v1/keys", content=bytes(3 << 20))
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    assert answer.headers["connection"] == "close"


async def test_chunks_are_counted(gateway: Any) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield bytes(10_000)

    answer = await gateway.client().post("/v1/keys", content=pieces())
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_stops_is_408(impatient: Any, path: str) -> None:
    reader, writer = await impatient.raw(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf".encode())
    text = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert text.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/client-too-slow" in text


async def test_a_body_that_trickles_is_408(impatient: Any) -> None:
    reader, writer = await impatient.raw(b"POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: 50000\r\n\r\n")
    task = asyncio.create_task(trickle(writer))
    text = await asyncio.wait_for(reader.read(1000), 10)
    task.cancel()
    assert text.startswith(b"HTTP/1.1 408 ")


async def test_token_endpoints_refuse_in_their_own_words(gateway: Any) -> None:
    answer = await gateway.client().post("/oauth/token", data={"grant_type": "x" * 70_000})
    assert (answer.status_code, answer.json()["error"]) == (413, "invalid_request")


@pytest.mark.parametrize("path", ["/v1/keys", "/oauth/token"])
async def test_a_client_that_hangs_up_in_a_body_is_no_error_of_ours(
    gateway: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unforeseen: list[BaseException] = []
    monkeypatch.setattr(middleware, "unforeseen", unforeseen.append)
    gone: list[Any] = []
    record = middleware.RequestMiddleware._record

    def remember(self: Any, info: Any, scope: Any, *rest: Any) -> None:
        gone.append(scope["path"])
        record(self, info, scope, *rest)

    monkeypatch.setattr(middleware.RequestMiddleware, "_record", remember)
    form = "content-type: application/x-www-form-urlencoded"
    _, writer = await gateway.raw(
        f"POST {path} HTTP/1.1\r\nhost: x\r\n{form}\r\ncontent-length: 100\r\n\r\nhalf".encode()
    )
    writer.close()
    await eventually(lambda: path in gone)
    assert unforeseen == []
