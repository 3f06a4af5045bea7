"""Rows over a WebSocket: each message is a body of rows, and gets its own answer once the brokers have them.

Answers come in the order of the messages. A few messages may be under way at once; who sends more waits, by TCP.
"""

from __future__ import annotations

import asyncio

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lakegate_chassis.health import Health
from lakegate_chassis.logs import log
from lakegate_chassis.problems import Problem, problem_body, unforeseen
from lakegate_ingest.metrics import STREAM_REQUESTS
from lakegate_ingest.streams.requests import Producing
from lakegate_ingest.streams.service import StreamService

UNDER_WAY = 8
# Then the client connects again, which asks anew who it is and what it may do.
LONGEST_SECONDS = 900.0
GOING_AWAY = 1001
TRY_AGAIN = 1012

Answers = asyncio.Queue[asyncio.Task[bytes] | None]


async def serve(socket: WebSocket, wanted: Producing, service: StreamService, health: Health) -> None:
    """Until the client goes, the time is up or this process drains; what was received then is still answered."""
    await socket.accept()
    answers: Answers = asyncio.Queue()
    room = asyncio.Semaphore(UNDER_WAY)
    writer = asyncio.create_task(_write(socket, answers, room))
    reader = asyncio.create_task(_read(socket, answers, room, wanted, service))
    drained = asyncio.create_task(health.draining.wait())
    try:
        await asyncio.wait({reader, writer, drained}, timeout=LONGEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await _end(reader)
        if not writer.done():
            answers.put_nowait(None)
            await asyncio.wait([writer], timeout=service.settings.ack_seconds * 2)
        if socket.application_state is WebSocketState.CONNECTED and socket.client_state is WebSocketState.CONNECTED:
            await socket.close(TRY_AGAIN if not drained.done() else GOING_AWAY)
    finally:
        for task in (reader, writer, drained):
            await _end(task)
        while not answers.empty():
            left = answers.get_nowait()
            if left is not None:
                await asyncio.wait([left])  # the brokers may have its rows: it ends by itself, unread


async def _read(
    socket: WebSocket, answers: Answers, room: asyncio.Semaphore, wanted: Producing, service: StreamService
) -> None:
    number = 0
    while True:
        await room.acquire()  # before a message is taken: one that was taken is answered
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        body = message.get("bytes")
        if body is None:
            body = (message.get("text") or "").encode()
        answers.put_nowait(asyncio.create_task(_answer(number, body, wanted, service)))
        number += 1


async def _answer(number: int, body: bytes, wanted: Producing, service: StreamService) -> bytes:
    try:
        with service.rooms.room(wanted.principal.tenant, len(body)) as room:
            accepted = await service.accept(wanted, body, room)
    except Problem as problem:
        STREAM_REQUESTS.labels(problem.slug).inc()
        return _refusal(number, wanted, problem)
    except Exception as error:  # noqa: BLE001 - the last handler: whatever it is, the client gets an answer
        return _refusal(number, wanted, unforeseen(error))
    return orjson.dumps({"message": number, "status": 202, "accepted": accepted.model_dump()})


def _refusal(number: int, wanted: Producing, problem: Problem) -> bytes:
    instance = f"/v1/streams/{wanted.table.namespace}/{wanted.table.name}/ws"
    return orjson.dumps({"message": number, "status": problem.status, "problem": problem_body(problem, instance)})


async def _write(socket: WebSocket, answers: Answers, room: asyncio.Semaphore) -> None:
    while (answer := await answers.get()) is not None:
        try:
            await socket.send_text((await answer).decode())
        except (WebSocketDisconnect, RuntimeError) as gone:
            log.info("stream_socket_gone", error=type(gone).__name__)
            return
        room.release()


async def _end(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, WebSocketDisconnect):
        raise error
