"""A connection that was reset, told to aiokafka as an error of Kafka's whichever event loop runs.

Between a reset and the moment at which aiokafka's reader notices it, something may still be written. asyncio's own
transport lets that pass; uvloop's raises RuntimeError, where aiokafka expects OSError (aio-libs/aiokafka#1038). The
task that renews a client's metadata dies of it unseen, and a consumer then waits for its coordinator for ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

_WRITES = ("send", "_send_sasl_token")


def _translated(write: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(write)
    def translating(connection: Any, *args: Any, **options: Any) -> Any:
        try:
            return write(connection, *args, **options)
        except KafkaError:  # which is a RuntimeError too
            raise
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error

    return translating


def tell_resets() -> None:
    """Have all connections of this process do so; once is enough, and twice is no harm."""
    for name in _WRITES:
        write = getattr(AIOKafkaConnection, name)
        if not hasattr(write, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _translated(write))
