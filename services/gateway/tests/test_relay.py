"""What passes through, as the service and the client see it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

from lakegate_chassis.testing import eventually
from lakegate_gateway.relay.exchange import Sending


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("POST", "/v1/loads/travel/flights?mode=append&name=a%20b.csv", "ingest"),
        ("GET", "/v1/loads/0190c2b8", "ingest"),
        ("GET", "/v1/tables/travel/flights/rows?limit=5", "ingest"),
        ("GET", "/v1/datasets?namespace=x&name=y", "catalog"),
        ("PATCH", "/v1/datasets/1", "catalog"),
        ("GET", "/v1/search?q=fl%C3%BCge", "catalog"),
        ("GET", "/iceberg/v1/config?warehouse=lakehouse", "catalog"),
        ("POST", "/api/v1/lineage", "lineage"),
        ("GET", "/v1/lineage/graph?namespace=a&name=b", "lineage"),
        ("GET", "/v1/runs/1", "lineage"),
        ("GET", "/v1/jobs", "lineage"),
    ],
)
async def test_each_path_reaches_its_service_unchanged(gateway: Any, method: str, path: str, service: str) -> None:
    answer = await gateway.admin.request(method, path, content=b"hello" if method != "GET" else None)
    seen = answer.json()
    assert (answer.status_code, seen["service"], seen["method"]) == (200, service, method)
    assert f"{seen['path']}?{seen['query']}".rstrip("?") == path
    assert seen["body"] == ("hello" if method != "GET" else "")


async def test_an_iceberg_namespace_keeps_its_encoded_separator(gateway: Any) -> None:
    tenant = gateway.app.state.settings.bootstrap.tenant
    answer = await gateway.admin.get(f"/iceberg/v1/{tenant}/namespaces/travel%1Feurope/tables")
    assert answer.json()["path"] == f"/iceberg/v1/{tenant}/namespaces/travel%1Feurope/tables"


async def test_the_service_gets_an_internal_token_and_not_the_client_s(gateway: Any) -> None:
    answer = await gateway.admin.get("/v1/datasets")
    seen = answer.json()
    assert "lgk_" not in seen["headers"]["authorization"]
    assert seen["principal"]["tenant"] == gateway.app.state.settings.bootstrap.tenant
    assert seen["principal"]["scopes"] == ["admin"]
    assert "lakegate-delegation" not in seen["headers"]


async def test_only_ingest_gets_a_delegation_and_no_client_can_bring_one(gateway: Any) -> None:
    forged = {"lakegate-delegation": "forged"}
    ingest = (await gateway.admin.get("/v1/loads", headers=forged)).json()["headers"]
    assert ingest["lakegate-delegation"].count(".") == 2
    catalog = (await gateway.admin.get("/v1/datasets", headers=forged)).json()["headers"]
    assert "lakegate-delegation" not in catalog


async def test_request_id_and_trace_go_through(gateway: Any) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = await gateway.admin.get("/v1/jobs", headers={"x-request-id": "order-66", "traceparent": trace})
    seen = answer.json()["headers"]
    assert (seen["x-request-id"], answer.headers["x-request-id"]) == ("order-66", "order-66")
    assert seen["traceparent"].split("-")[1] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_hop_by_hop_headers_stay_behind(gateway: Any) -> None:
    async def handler(request: Any, send: Any) -> None:
        headers = {"connection": "x-private", "x-private": "1", "keep-alive": "timeout=5", "x-public": "1"}
        await gateway.services["catalog"].answer_json(send, request.headers, headers=headers)

    gateway.services["catalog"].handler = handler
    sent = {"connection": "keep-alive, x-mine", "x-mine": "1", "te": "trailers", "x-other": "1"}
    answer = await gateway.admin.get("/v1/datasets", headers=sent)
    assert answer.json().keys().isdisjoint({"connection", "x-mine", "te"})
    assert answer.json()["x-other"] == "1"
    assert "x-private" not in answer.headers
    assert "keep-alive" not in answer.headers
    assert answer.headers["x-public"] == "1"


async def test_a_length_is_kept_and_chunks_stay_chunks(gateway: Any) -> None:
    body = b"x" * 100_000

    async def pieces() -> Any:
        for start in range(0, len(body), 7_000):
            yield body[start : start + 7_000]

    known = (await gateway.admin.post("/v1/loads/a/b", content=body)).json()
    assert known["headers"]["content-length"] == "100000"
    chunked = (await gateway.admin.post("/v1/loads/a/b", content=pieces())).json()
    assert chunked["headers"]["transfer-encoding"] == "chunked"
    assert (known["body_bytes"], chunked["body_bytes"]) == (100_000, 100_000)


async def test_an_empty_post_is_passed_on(gateway: Any) -> None:
    seen = (await gateway.admin.post("/api/v1/lineage")).json()
    assert (seen["headers"]["content-length"], seen["body_bytes"]) == ("0", 0)


async def test_a_head_has_the_length_but_no_body_and_the_connection_lives_on(gateway: Any) -> None:
    for _ in range(3):
        answer = await gateway.admin.head("/v1/datasets")
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) > 100
    assert (await gateway.admin.get("/v1/datasets")).json()["method"] == "GET"


async def test_compressed_bytes_are_not_touched(gateway: Any) -> None:
    async def handler(request: Any, send: Any) -> None:
        pairs = [(b"content-encoding", b"zstd"), (b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        await send({"type": "http.response.body", "body": b"\x28\xb5\x2f\xfd"})

    gateway.services["ingest"].handler = handler
    async with gateway.admin.stream("GET", "/v1/tables/a/b/rows") as answer:
        assert b"".join([piece async for piece in answer.aiter_raw()]) == b"\x28\xb5\x2f\xfd"


async def test_a_large_body_arrives_whole_both_ways(gateway: Any) -> None:
    block = hashlib.sha256(b"seed").digest() * 32_768  # 1 MiB

    async def handler(request: Any, send: Any) -> None:
        digest = hashlib.sha256()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not request.whole:
            piece = await request.read()
            digest.update(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": digest.hexdigest().encode()})

    gateway.services["ingest"].handler = handler

    async def pieces() -> Any:
        for _ in range(4):
            yield block[:-1]

    answer = await gateway.admin.post("/v1/loads/a/b", content=pieces())
    sent = block[:-1] * 4
    assert answer.content[:-64] == sent
    assert answer.content[-64:].decode() == hashlib.sha256(sent).hexdigest()


async def test_an_answer_streams_piece_by_piece(gateway: Any) -> None:
    seen = asyncio.Event()

    async def handler(request: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await seen.wait()  # the second event only after the client has read the first
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    gateway.services["ingest"].handler = handler
    pieces = []
    async with gateway.admin.stream("GET", "/v1/loads/1/events") as answer:
        async for piece in answer.aiter_raw():
            pieces.append(piece)
            seen.set()
    assert pieces == [b"data: 1\n\n", b"data: 2\n\n"]


async def test_a_request_streams_piece_by_piece(gateway: Any) -> None:
    arrived = asyncio.Event()

    async def handler(request: Any, send: Any) -> None:
        assert await request.read() == b"first"
        arrived.set()
        assert await request.read() == b"second"
        await gateway.services["ingest"].answer_json(send, {})

    gateway.services["ingest"].handler = handler

    async def pieces() -> Any:
        yield b"first"
        await arrived.wait()
        yield b"second"

    assert (await gateway.admin.post("/v1/loads/a/b", content=pieces())).status_code == 200


def stuck_for(call: Any) -> float:
    """For how many seconds the service has taken nothing of a request."""
    return float(call.loop.time() - call.sending_since) if call.sending is Sending.TO_UPSTREAM else 0.0


async def test_what_the_service_can_t_take_is_not_read_from_the_client(start_gateway: Any) -> None:
    """Of 256 MB that a client offers, only what buffers hold leaves it while the service rests."""
    limits = start_gateway.limits.model_copy(update={"load_bytes": 1 << 30})
    resume = asyncio.Event()
    sent = 0

    async def handler(request: Any, send: Any) -> None:
        await request.read()
        await resume.wait()
        while not request.whole:
            await request.read()
        await gateway.services["ingest"].answer_json(send, {"bytes": request.body_bytes})

    async def pieces() -> Any:
        nonlocal sent
        block = bytes(1 << 20)
        for _ in range(256):
            yield block
            sent += len(block)

    async with start_gateway(limits=limits) as gateway:
        gateway.services["ingest"].handler = handler
        upload = asyncio.create_task(gateway.admin.post("/v1/loads/a/b", content=pieces()))
        await eventually(lambda: gateway.services["ingest"].requests)
        relay = gateway.app.resources.relay
        await eventually(lambda: any(stuck_for(call) > 0.5 for call in relay._under_way))
        assert sent < 64 << 20
        resume.set()
        assert (await upload).json() == {"bytes": 256 << 20}


async def test_a_client_that_hangs_up_ends_the_upload_at_the_service(gateway: Any) -> None:
    ended = asyncio.Event()

    async def handler(request: Any, send: Any) -> None:
        while await request.read():
            pass
        if not request.whole:
            ended.set()

    gateway.services["ingest"].handler = handler
    _, writer = await gateway.raw(
        b"POST /v1/loads/a/b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: 1000\r\n\r\nhalf"
        % gateway.admin_key.encode()
    )
    await eventually(lambda: gateway.services["ingest"].requests and gateway.services["ingest"].requests[0].body_bytes)
    writer.close()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_client_that_hangs_up_ends_the_wait_at_the_service(gateway: Any) -> None:
    ended = asyncio.Event()

    async def handler(request: Any, send: Any) -> None:
        await request.read()
        await request.read()  # returns at a disconnect
        ended.set()

    gateway.services["catalog"].handler = handler
    _, writer = await gateway.raw(
        b"GET /v1/search?q=x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n\r\n" % gateway.admin_key.encode()
    )
    await eventually(lambda: gateway.services["catalog"].requests)
    writer.close()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_304_passes_with_its_tag_and_without_a_body(gateway: Any) -> None:
    async def handler(request: Any, send: Any) -> None:
        headers = [(b"etag", b'"3"')]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    gateway.services["catalog"].handler = handler
    for _ in range(2):
        answer = await gateway.admin.get("/v1/datasets/1", headers={"if-none-match": '"3"'})
        assert (answer.status_code, answer.headers["etag"], answer.content) == (304, '"3"', b"")


async def test_a_client_that_hangs_up_in_a_download_ends_it_at_the_service(gateway: Any) -> None:
    ended = asyncio.Event()

    async def handler(request: Any, send: Any) -> None:
        await request.read()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first row", "more_body": True})
        await request.read()  # returns at a disconnect
        ended.set()

    gateway.services["ingest"].handler = handler
    async with gateway.admin.stream("GET", "/v1/tables/a/b/rows") as answer:
        assert await anext(answer.aiter_raw()) == b"first row"
    await asyncio.wait_for(ended.wait(), 10)


async def test_problems_of_a_service_pass_unchanged(gateway: Any) -> None:
    problem = {"type": "/problems/dataset-not-found", "title": "x", "status": 404, "detail": "y", "trace_id": "z"}

    async def handler(request: Any, send: Any) -> None:
        await gateway.services["catalog"].answer_json(send, problem, 404)

    gateway.services["catalog"].handler = handler
    answer = await gateway.admin.get("/v1/datasets/1")
    assert (answer.status_code, answer.json()) == (404, problem)


async def test_many_requests_at_once_keep_their_answers_apart(gateway: Any) -> None:
    async def one(number: int) -> bool:
        answer = await gateway.admin.post("/v1/loads/a/b", content=f"body {number}")
        return bool(answer.json()["body"] == f"body {number}")

    assert all(await asyncio.gather(*(one(number) for number in range(200))))


async def test_pipelined_requests_are_answered_in_order(gateway: Any) -> None:
    line = b"GET /v1/jobs?n=%d HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + gateway.admin_key.encode() + b"\r\n"
    last = b"connection: close\r\n\r\n"
    reader, _ = await gateway.raw(line % 1 + b"\r\n" + line % 2 + b"\r\n" + line % 3 + last)
    text = (await asyncio.wait_for(reader.read(), 10)).decode()
    assert [text.index(f'"query":"n={number}"') for number in (1, 2, 3)] == sorted(
        text.index(f'"query":"n={number}"') for number in (1, 2, 3)
    )


async def test_an_unknown_path_is_a_problem_of_the_gateway(gateway: Any) -> None:
    answer = await gateway.admin.get("/v1/nothing")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_health_needs_no_credential(gateway: Any) -> None:
    anonymous: httpx.AsyncClient = gateway.client()
    for path in ("/livez", "/readyz", "/startupz"):
        assert (await anonymous.get(path)).status_code == 200
