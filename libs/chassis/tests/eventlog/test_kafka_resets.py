"""A broker's reset, under the event loop that services run on: an error of Kafka's, which its clients expect."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest
from servers.kafka import Kafka

from lakegate_chassis.eventlog.kafka.connections import CLIENT

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Middle:
    """Stands between one client and a broker, and can reset the client's connection."""

    def __init__(self, broker: str) -> None:
        self._host, _, port = broker.rpartition(":")
        self._port = int(port)
        self._client: asyncio.StreamWriter | None = None

    async def between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._client = writer
        from_broker, to_broker = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_pass_on(reader, to_broker))
                ways.create_task(_pass_on(from_broker, writer))
        finally:
            to_broker.close()

    def reset(self) -> None:
        assert self._client is not None
        self._client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._client.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


def test_what_is_written_to_a_connection_that_was_just_reset_is_an_error_of_kafkas(kafka: Kafka) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_written_to_a_reset_connection(kafka.bootstrap))


async def _written_to_a_reset_connection(broker: str) -> None:
    middle = Middle(broker)
    server = await asyncio.start_server(middle.between, "127.0.0.1", 0)
    connection = AIOKafkaConnection("127.0.0.1", server.sockets[0].getsockname()[1], client_id=CLIENT)
    await connection.connect()
    written: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    _before_the_reader_notices(connection, lambda: _write(connection, written))
    middle.reset()
    async with asyncio.timeout(30):
        thought_open, error = await written
    assert thought_open
    assert isinstance(error, KafkaConnectionError)
    assert not connection.connected()
    with pytest.raises(KafkaConnectionError):
        connection.send(ApiVersionRequest())
    server.close()


def _before_the_reader_notices(connection: AIOKafkaConnection, act: Any) -> None:
    """In the turn of the loop that has closed the socket, before that in which aiokafka's reader wakes up."""
    protocol = connection._protocol
    lost = protocol.connection_lost

    def losing(error: Exception | None) -> None:
        assert isinstance(error, ConnectionResetError)
        asyncio.get_running_loop().call_soon(act)
        lost(error)

    protocol.connection_lost = losing


def _write(connection: AIOKafkaConnection, written: asyncio.Future[Any]) -> None:
    thought_open = connection.connected()
    try:
        connection.send(ApiVersionRequest())
    except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
        written.set_result((thought_open, error))
