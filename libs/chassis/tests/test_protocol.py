"""What one client, however rude, can make a service hold, and what it is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from lakegate_chassis import protocol
from lakegate_chassis.testing import eventually, serving

KIB = 1024


class App:
    """Answers 200 with the path and the size of the body, once `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = 0
        self.length = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        if scope["path"] != "/livez":
            await self.gate.wait()
        body = f"{scope['path']} {size}\n".encode()
        headers = [(b"content-length", str(len(body)).encode())] if self.length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def port(app: App) -> AsyncIterator[int]:
    async with serving(app, lifespan="off", most_served=4) as url:
        yield int(url.rpartition(":")[2])


async def opened(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    return reader, writer


async def ask(port: int, request: bytes) -> bytes:
    """All that comes back until the server closes."""
    reader, writer = await opened(port, request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def slug(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return str(orjson.loads(body)["type"]).rpartition("/")[2]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 30_000,
        b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 500_000,
        b"GET /" + b"x" * 500_000,
        b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 70_000 + b"\r\n\r\n",
        b"\r\n" * 100_000,
    ],
    ids=["many headers", "an endless value", "an endless URL", "a whole head that is too large", "only line ends"],
)
async def test_a_head_over_the_limit_is_431_and_the_end_of_the_connection(port: int, request_bytes: bytes) -> None:
    answer = await ask(port, request_bytes)
    assert (status(answer), slug(answer)) == (431, "head-too-large")
    assert b"connection: close" in answer


async def test_a_large_head_within_the_limit_is_served(port: int) -> None:
    answer = await ask(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: " + b"x" * 60_000 + b"\r\n\r\n")
    assert status(answer) == 200


async def test_endless_trailers_end_the_connection(port: int) -> None:
    chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    _, writer = await opened(port, chunked + b"a: ")

    async def send_on() -> None:
        for _ in range(2_000):
            writer.write(b"x" * 10_000)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await send_on()


async def test_bodies_of_every_framing_arrive_whole_behind_each_other(port: int) -> None:
    body = b"x" * 1_000_003
    known = b"POST /known HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    chunk = b"%x\r\n%b\r\n" % (len(body), body)
    chunked = b"POST /chunked HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = await ask(port, known + chunked + known + last)
    lines = [line for line in answer.splitlines() if line.startswith(b"/")]
    assert lines == [b"/known 1000003", b"/chunked 1000003", b"/known 1000003", b"/last 0"]


async def test_thousands_of_pipelined_requests_are_read_only_as_they_are_answered(
    app: App, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Any] = []
    made = protocol.ServerProtocol.connection_made

    def remember(self: Any, transport: Any) -> None:
        connections.append(self)
        made(self, transport)

    monkeypatch.setattr(protocol.ServerProtocol, "connection_made", remember)
    app.gate.clear()
    count = 20_000
    requests = b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(count))
    reader, writer = await opened(port, requests + b"GET /end HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    await eventually(lambda: connections and connections[0].flow.read_paused)
    assert app.begun == 1
    assert len(connections[0].pipeline) < 500
    assert len(connections[0]._held) < 512 * KIB
    app.gate.set()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    lines = [line for line in answer.splitlines() if line.startswith(b"/")]
    assert lines == [b"/%d 0" % number for number in range(count)] + [b"/end 0"]


async def test_a_head_that_is_not_whole_in_time_is_408(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    answer = await ask(port, b"GET / HTTP/1.1\r\nhost: x\r\n")
    assert (status(answer), slug(answer)) == (408, "client-too-slow")


async def test_a_second_head_has_the_same_time(app: App, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    app.gate.clear()
    reader, writer = await opened(port, b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n")
    await eventually(lambda: app.begun == 1)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)  # the first head came, however slowly
    writer.write(b"GET /second")
    app.gate.set()
    text = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert b"/first 0" in text
    assert b"HTTP/1.1 408 " in text


async def test_a_connection_that_says_nothing_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    assert await ask(port, b"") == b""


async def test_an_idle_connection_outlives_the_time_for_a_head(
    app: App, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.gate.clear()
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    reader, writer = await opened(port, request)
    await eventually(lambda: app.begun == 1)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)  # its own head came, however slowly
    app.gate.set()
    await reader.readuntil(b"/ 0\n")
    assert await ask(port, b"") == b""  # another one, silent all along, has come and gone meanwhile
    writer.write(request)
    assert b"/ 0\n" in await reader.readuntil(b"/ 0\n")
    writer.close()


async def test_unfinished_heads_shut_nobody_out(app: App, port: int) -> None:
    slow = [await opened(port, b"GET / HTTP/1.1\r\n") for _ in range(60)]
    request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert status(await ask(port, request)) == 200
    for _, writer in slow:
        writer.close()


async def test_over_the_limit_requests_are_a_503_problem_and_health_is_answered(app: App, port: int) -> None:
    app.gate.clear()
    held = [await opened(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") for _ in range(4)]
    await eventually(lambda: app.begun == 4)
    shed = await ask(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (status(shed), slug(shed)) == (503, "unavailable")
    assert b"retry-after: 1" in shed
    assert status(await ask(port, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")) == 200
    app.gate.set()
    for reader, writer in held:
        assert status(await asyncio.wait_for(reader.read(), 10)) == 200
        writer.close()


@pytest.mark.parametrize(
    ("lines", "code", "kind"),
    [
        (b"connection: content-length\r\ncontent-length: 4\r\n", 400, "invalid-http"),
        (b"connection: close, Transfer-Encoding\r\ncontent-length: 4\r\n", 400, "invalid-http"),
        (b"authorization: Bearer a\r\nauthorization: Bearer b\r\n", 400, "invalid-http"),
        (b"host: y\r\n", 400, "invalid-http"),
        (b"transfer-encoding: gzip, chunked\r\n", 501, "not-implemented"),
        (b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", 501, "not-implemented"),
        (b"content-length: 4\r\ncontent-length: 5\r\n", 400, "invalid-http"),
        (b"no colon\r\n", 400, "invalid-http"),
    ],
)
async def test_ambiguous_requests_are_refused(app: App, port: int, lines: bytes, code: int, kind: str) -> None:
    answer = await ask(port, b"POST / HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\nbody")
    assert (status(answer), slug(answer), app.begun) == (code, kind, 0)


@pytest.mark.parametrize("url", [b"/h%ff/t", b"/h%C3/t", b"/search?q=%ff", b"/?a=1&%ED%A0%80=2", b"/%C0%AF"])
async def test_a_path_and_a_query_are_utf_8_and_a_body_may_be_sent_on(app: App, port: int, url: bytes) -> None:
    body = b"x" * 500_000
    answer = await ask(port, b"POST " + url + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n" + body)
    assert (status(answer), slug(answer), app.begun) == (400, "invalid-http", 0)
    assert b"UTF-8" in answer


async def test_every_character_may_be_in_a_path_and_a_query(port: int) -> None:
    url = b"/%C3%BC%F0%9F%A6%86%EF%BF%BD%25%1F%2F?q=%C3%BC+%25"
    answer = await ask(port, b"GET " + url + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert status(answer) == 200
    assert "/\u00fc\U0001f986\ufffd%\x1f/ 0".encode() in answer


async def test_a_host_is_asked_for_in_http_1_1_and_in_each_request(app: App, port: int) -> None:
    answer = await ask(port, b"GET / HTTP/1.1\r\naccept: */*\r\n\r\n")
    assert (status(answer), slug(answer), app.begun) == (400, "invalid-http", 0)
    assert b"Host" in answer
    reader, writer = await opened(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status(await asyncio.wait_for(reader.readuntil(b"/ 0\n"), 10)) == 200
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert status(await asyncio.wait_for(reader.read(), 10)) == 400
    writer.close()


@pytest.mark.parametrize(
    "rest",
    [
        b"NONSENSE\r\n\r\n",
        b"x" * 100,
        b"a,b\n" * 1_000_000,
        b"GET /%ff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /c HTTP/1.1\r\n\r\n",
        b"POST /c HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n",
    ],
    ids=["nonsense", "letters", "a file", "a path", "no host", "a chunk"],
)
async def test_a_bad_request_behind_an_unanswered_one_is_no_answer_to_it(app: App, port: int, rest: bytes) -> None:
    app.gate.clear()
    reader, writer = await opened(port, b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n" + rest)
    await eventually(lambda: app.begun == 1)
    app.gate.set()
    said = await asyncio.wait_for(reader.read(), 10)
    answers = re.split(rb"HTTP/1\.1 (?=[0-9])", said)[1:]
    writer.close()
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"400"]
    assert b"/a 0" in answers[0]
    assert b"/b 0" in answers[1]
    assert slug(answers[2]) == "invalid-http"


@pytest.mark.parametrize("length", [True, False])
async def test_a_client_of_http_1_0_gets_no_chunks(app: App, port: int, length: bool) -> None:
    app.length = length
    head, _, body = (await ask(port, b"GET /old HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert (b"content-length" in head) is length
    assert b"connection: close" in head
    assert body == b"/old 0\n"
