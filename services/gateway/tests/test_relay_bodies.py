"""What the client gets while it still sends: answers that come early, limits of bodies, and leave to go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .conftest import head

# early answers


async def test_an_early_answer_reaches_the_client_that_is_still_sending(gateway: Any) -> None:
    async def handler(request: Any, send: Any) -> None:
        await request.read()
        await gateway.services["ingest"].answer_json(send, {"type": "/problems/conflict"}, 409)

    gateway.services["ingest"].handler = handler
    request = head(gateway, "POST", "/v1/loads/a/b", "content-length: 4000000")
    reader, writer = await gateway.raw(request + b"x" * 100_000)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b"connection: close" in answer
    writer.write(b"x" * 3_900_000)  # it is taken and thrown away, so that nothing is reset
    await writer.drain()
    assert await asyncio.wait_for(reader.read(), 10) == b'{"type":"/problems/conflict"}'


async def test_a_discard_ends_at_its_limit(start_gateway: Any) -> None:
    limits = start_gateway.limits.model_copy(update={"load_bytes": 1 << 30, "discard_bytes": 1 << 20})

    async def handler(request: Any, send: Any) -> None:
        await gateway.services["ingest"].answer_json(send, {}, 422)

    async with start_gateway(limits=limits) as gateway:
        gateway.services["ingest"].handler = handler
        request = head(gateway, "POST", "/v1/loads/a/b", "content-length: 900000000")
        reader, writer = await gateway.raw(request + b"x" * 1000)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 422 ")

        async def send_all() -> None:
            for _ in range(900):
                writer.write(b"x" * 1_000_000)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await send_all()


# body limits


async def test_a_length_over_the_limit_is_413_before_a_byte_is_read(gateway: Any) -> None:
    request = head(gateway, "POST", "/v1/loads/a/b", "expect: 100-continue", "content-length: 5000000")
    reader, _ = await gateway.raw(request)
    text = await asyncio.wait_for(reader.read(), 10)
    assert text.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in text
    assert b"/problems/too-large" in text
    assert b'"limit_bytes":4194304' in text
    assert gateway.services["ingest"].requests == []


async def test_a_client_that_sends_without_asking_still_sees_its_413(gateway: Any) -> None:
    answer = await gateway.admin.post("/v1/loads/a/b", content=bytes(5_000_000))
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    assert gateway.services["ingest"].requests == []


async def test_chunks_over_the_limit_are_413_where_the_limit_is(gateway: Any) -> None:
    ended = asyncio.Event()

    async def handler(request: Any, send: Any) -> None:
        while await request.read():
            pass
        if not request.whole:
            ended.set()

    async def pieces() -> Any:
        for _ in range(60):
            yield bytes(100_000)

    gateway.services["ingest"].handler = handler
    answer = await gateway.admin.post("/v1/loads/a/b", content=pieces())
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    await asyncio.wait_for(ended.wait(), 10)  # the service sees a cut upload, not a short one
    assert gateway.services["ingest"].requests[0].body_bytes <= 4 << 20


async def test_each_route_has_its_own_limit(gateway: Any) -> None:
    answer = await gateway.admin.patch("/v1/datasets/1", content=bytes(9 << 20))
    assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 8 << 20)


async def test_expect_gets_its_continue_when_the_service_is_there(gateway: Any) -> None:
    reader, writer = await gateway.raw(
        head(gateway, "POST", "/v1/loads/a/b", "expect: 100-continue", "content-length: 5", "connection: close")
    )
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    text = await asyncio.wait_for(reader.read(), 10)
    assert text.startswith(b"HTTP/1.1 200 ")
    assert b'"body":"hello"' in text
