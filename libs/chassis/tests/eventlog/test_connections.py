"""What aiokafka raises where no broker answers is a ConnectionError, which callers know."""

from __future__ import annotations

import pytest

from lakegate_chassis.eventlog.kafka import connections


class Unanswered:
    """A client as aiokafka's is while the brokers hang: it asserts that it has been given one."""

    stopped = False

    async def start(self) -> None:
        raise AssertionError("Did we not perform bootstrap?")

    async def stop(self) -> None:
        self.stopped = True


async def test_a_client_that_no_broker_answers_is_stopped_and_said_to_reach_none() -> None:
    client = Unanswered()
    with pytest.raises(ConnectionError, match="no broker has answered"):
        await connections._start(client)
    assert client.stopped
