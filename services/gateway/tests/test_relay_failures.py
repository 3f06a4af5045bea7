"""What the client gets when the service, or the client itself, misbehaves."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from lakegate_chassis.testing import eventually
from lakegate_gateway import routes
from lakegate_gateway.relay import breaker

from .conftest import head, trickle

HASTE_SECONDS = 0.5
Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def wire(session: Session) -> AsyncIterator[str]:
    """A service that speaks whatever `session` writes."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await session(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def nobody() -> Iterator[socket.socket]:
    """Where nobody listens: bound, so that no other process of the run gets the port meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def url_of(place: socket.socket) -> str:
    return f"http://127.0.0.1:{place.getsockname()[1]}"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short deadlines on every route."""
    table = {
        prefix: dataclasses.replace(route, deadline_seconds=HASTE_SECONDS, idle_seconds=HASTE_SECONDS)
        for prefix, route in routes._BY_PREFIX.items()
    }
    monkeypatch.setattr(routes, "_BY_PREFIX", table)


async def test_a_service_that_is_away_is_503_with_a_time_to_come_back(
    start_gateway: Any, nobody: socket.socket
) -> None:
    async with start_gateway(lineage_url=url_of(nobody)) as gateway:
        answer = await gateway.admin.get("/v1/jobs")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["type"] == "/problems/upstream-unreachable"
        assert (await gateway.admin.get("/v1/datasets")).status_code == 200  # the others are served


async def test_a_service_that_stays_away_is_not_asked_by_every_request(
    start_gateway: Any, nobody: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "OPEN_AFTER_SECONDS", 0.0)
    async with start_gateway(lineage_url=url_of(nobody)) as gateway:
        clock = asyncio.get_running_loop().time
        now, gate = clock(), gateway.app.resources.relay.upstreams["lineage"]._breaker
        # its second stands still: the one try of a second is not among those that are counted, however slow they are
        monkeypatch.setattr(gate, "_clock", lambda: now)

        def counted(outcome: str) -> float:
            labels = {"upstream": "lineage", "outcome": outcome}
            return REGISTRY.get_sample_value("lakegate_upstream_calls_total", labels) or 0.0

        before = counted("circuit_open")
        answers = [await gateway.admin.post("/v1/runs", json={}) for _ in range(10)]
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(503, "2")}
        assert counted("circuit_open") - before == 5
        assert REGISTRY.get_sample_value("lakegate_gateway_breaker_open", {"upstream": "lineage"}) == 1

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        monkeypatch.setattr(gate, "_clock", clock)
        async with await asyncio.start_server(answer, sock=nobody):

            async def back() -> bool:
                return bool((await gateway.admin.get("/v1/jobs")).status_code == 200)

            await eventually(back)
        assert REGISTRY.get_sample_value("lakegate_gateway_breaker_open", {"upstream": "lineage"}) == 0


async def test_an_upload_to_a_service_that_is_away_is_answered_before_it_is_sent(
    start_gateway: Any, nobody: socket.socket
) -> None:
    async with start_gateway(ingest_url=url_of(nobody)) as gateway:
        request = head(gateway, "POST", "/v1/loads/a/b", "expect: 100-continue", "content-length: 1000")
        reader, _ = await gateway.raw(request)
        text = await asyncio.wait_for(reader.read(), 10)
        assert text.startswith(b"HTTP/1.1 503 ")
        assert b"100 Continue" not in text


async def test_an_iceberg_commit_that_nobody_took_is_503_in_iceberg_s_words(
    start_gateway: Any, nobody: socket.socket
) -> None:
    async with start_gateway(tenant="acme", catalog_url=url_of(nobody)) as gateway:
        answer = await gateway.admin.post("/iceberg/v1/acme/namespaces/a/tables/t", json={})
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == (503, "ServiceUnavailableException")
        assert "retry-after" in answer.headers


async def test_an_iceberg_commit_whose_connection_broke_is_502_and_its_outcome_unknown(start_gateway: Any) -> None:
    taken = 0

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        taken += 1

    async with wire(session) as url, start_gateway(tenant="acme2", catalog_url=url) as gateway:
        answer = await gateway.admin.post("/iceberg/v1/acme2/namespaces/a/tables/t", json={})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (502, 502, "CommitStateUnknownException")
        assert taken == 1  # never repeated


async def test_an_iceberg_commit_without_an_answer_is_504_and_its_outcome_unknown(
    start_gateway: Any, hasty: None
) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with wire(session) as url, start_gateway(tenant="acme3", catalog_url=url) as gateway:
        answer = await gateway.admin.post("/iceberg/v1/acme3/namespaces/a/tables/t", json={})
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "CommitStateUnknownException")


@pytest.mark.parametrize(
    "body", [("content-length: 2", b"{}"), ("transfer-encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n")]
)
async def test_a_connection_that_ends_before_the_body_came_is_503_since_nothing_was_sent(
    start_gateway: Any, body: tuple[str, bytes]
) -> None:
    ended = asyncio.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await reader.read()  # until the gateway has closed its side, too
        ended.set()

    framing, content = body
    async with wire(session) as url, start_gateway(lineage_url=url) as gateway:
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(head(gateway, "POST", "/api/v1/lineage", "content-type: application/json", framing))
        await ended.wait()
        writer.write(content)
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert answer.startswith(b"HTTP/1.1 503")


async def test_no_answer_in_time_is_504(start_gateway: Any, hasty: None) -> None:
    hung_up = asyncio.Event()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
        finally:
            hung_up.set()

    async with wire(session) as url, start_gateway(lineage_url=url) as gateway:
        answer = await gateway.admin.get("/v1/jobs")
        assert (answer.status_code, answer.json()["type"]) == (504, "/problems/upstream-timeout")
        await asyncio.wait_for(hung_up.wait(), 10)  # the call is not left running


async def test_the_deadline_starts_when_the_body_has_ended(start_gateway: Any, hasty: None) -> None:
    async def pieces() -> Any:
        yield b"x" * 1000
        relay = gateway.app.resources.relay
        await eventually(lambda: any(call.loop.time() - call.started > 2 * HASTE_SECONDS for call in relay._under_way))
        yield b"x" * 1000

    async with start_gateway() as gateway:
        assert (await gateway.admin.post("/v1/loads/a/b", content=pieces())).status_code == 200


@pytest.mark.parametrize(
    "spoken",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ],
    ids=["nothing", "half a head", "no HTTP", "two lengths", "length and chunks", "an upgrade"],
)
async def test_an_answer_that_is_none_is_502(start_gateway: Any, spoken: bytes) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(spoken)
        await writer.drain()

    async with wire(session) as url, start_gateway(lineage_url=url) as gateway:
        answer = await gateway.admin.post("/api/v1/lineage", json={})
        assert (answer.status_code, answer.json()["type"]) == (502, "/problems/bad-upstream")


@pytest.mark.parametrize(
    "spoken",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ],
    ids=["length", "length and close", "chunks"],
)
async def test_an_answer_that_breaks_off_is_broken_off_for_the_client_too(start_gateway: Any, spoken: bytes) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(spoken)
        await writer.drain()

    async with wire(session) as url, start_gateway(ingest_url=url) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.admin.get("/v1/tables/a/b/rows")


async def test_an_answer_that_stops_is_broken_off(start_gateway: Any, hasty: None) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
        await reader.read(-1)

    async with wire(session) as url, start_gateway(ingest_url=url) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await gateway.admin.get("/v1/tables/a/b/rows")


async def test_an_answer_that_ends_with_its_connection_is_whole(start_gateway: Any) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it")
        await writer.drain()

    async with wire(session) as url, start_gateway(ingest_url=url) as gateway:
        assert (await gateway.admin.get("/v1/tables/a/b/rows")).text == "all of it"


async def test_a_304_that_announces_a_length_is_passed_without_it(start_gateway: Any) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 100\r\n\r\n")
            await writer.drain()

    async with wire(session) as url, start_gateway(catalog_url=url) as gateway:
        for _ in range(2):
            answer = await gateway.admin.get("/v1/datasets/1")
            assert (answer.status_code, answer.headers["etag"]) == (304, "x")


async def test_interim_answers_are_not_taken_for_the_answer(start_gateway: Any) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with wire(session) as url, start_gateway(ingest_url=url) as gateway:
        answer = await gateway.admin.get("/v1/tables/a/b/rows")
        assert (answer.text, "link" in answer.headers) == ("ok", False)


async def test_a_kept_connection_that_has_ended_costs_no_read_and_no_write(start_gateway: Any) -> None:
    """The service closes each connection after one answer without saying so."""
    connections = 0

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with wire(session) as url, start_gateway(lineage_url=url) as gateway:
        for _ in range(10):
            assert (await gateway.admin.get("/v1/jobs")).status_code == 200
            assert (await gateway.admin.post("/api/v1/lineage")).status_code == 200
        assert connections == 20


async def test_a_connection_with_an_unasked_answer_on_it_is_not_used_again(start_gateway: Any) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await reader.read(-1)

    async with wire(session) as url, start_gateway(lineage_url=url) as gateway:
        for _ in range(5):
            assert (await gateway.admin.get("/v1/jobs")).text == "ok"


# slow clients


async def test_a_body_that_stops_is_408(impatient: Any) -> None:
    reader, _ = await impatient.raw(head(impatient, "POST", "/v1/loads/a/b", "content-length: 1000") + b"half")
    text = await asyncio.wait_for(reader.read(), 10)
    assert text.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/client-too-slow" in text
    await eventually(lambda: not impatient.app.resources.relay.upstreams["ingest"].in_use)


async def test_a_body_that_never_begins_is_408(impatient: Any) -> None:
    reader, _ = await impatient.raw(head(impatient, "POST", "/v1/loads/a/b", "transfer-encoding: chunked"))
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_trickles_is_408(impatient: Any) -> None:
    reader, writer = await impatient.raw(head(impatient, "POST", "/v1/loads/a/b", "content-length: 100000"))
    task = asyncio.create_task(trickle(writer))
    text = await asyncio.wait_for(reader.read(1000), 10)  # in one piece; a byte that crosses the close is a reset
    task.cancel()
    assert text.startswith(b"HTTP/1.1 408 ")


async def test_a_slow_service_is_not_held_against_the_client(impatient: Any) -> None:
    relay, limits = impatient.app.resources.relay, impatient.app.state.settings.limits

    async def handler(request: Any, send: Any) -> None:
        await request.read()
        limit = max(limits.client_grace_seconds, limits.client_idle_seconds)
        await eventually(lambda: any(call.loop.time() - call.started > limit for call in relay._under_way))
        while not request.whole:
            await request.read()
        await impatient.services["ingest"].answer_json(send, {})

    impatient.services["ingest"].handler = handler
    assert (await impatient.admin.post("/v1/loads/a/b", content=bytes(4 << 20))).status_code == 200


async def test_a_client_that_takes_nothing_is_let_go(gateway: Any, hasty: None) -> None:
    ended = asyncio.Event()

    async def flood(request: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        ended.set()

    gateway.services["ingest"].handler = flood
    _, writer = await gateway.raw(head(gateway, "GET", "/v1/tables/a/b/rows"))
    writer.transport.pause_reading()
    await asyncio.wait_for(ended.wait(), 15)  # its sends go nowhere once the gateway has hung up
    await eventually(lambda: not gateway.app.resources.relay.upstreams["ingest"].in_use)


# load


async def test_a_service_with_all_it_can_take_is_503(start_gateway: Any) -> None:
    limits = start_gateway.limits.model_copy(update={"upstream_connections": 2})
    release = asyncio.Event()

    async def handler(request: Any, send: Any) -> None:
        await release.wait()
        await gateway.services["lineage"].answer_json(send, {})

    async with start_gateway(limits=limits) as gateway:
        gateway.services["lineage"].handler = handler
        held = [asyncio.create_task(gateway.admin.get("/v1/jobs")) for _ in range(2)]
        await eventually(lambda: len(gateway.services["lineage"].requests) == 2)
        shed = await gateway.admin.post("/api/v1/lineage", json={})
        assert (shed.status_code, "retry-after" in shed.headers) == (503, True)
        release.set()
        assert [(await task).status_code for task in held] == [200, 200]


async def test_repeats_are_bounded_by_the_budget(start_gateway: Any, nobody: socket.socket) -> None:
    async with start_gateway(lineage_url=url_of(nobody)) as gateway:
        answers = await asyncio.gather(*(gateway.admin.get("/v1/jobs") for _ in range(100)))
        assert {answer.status_code for answer in answers} == {503}
        assert gateway.app.resources.relay.budget.tokens < 1
