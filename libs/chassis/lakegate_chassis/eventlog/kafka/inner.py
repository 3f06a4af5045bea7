"""What aiokafka's clients have inside: tasks that nobody there watches, and what is left when an end fails half way."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

from aiokafka.errors import KafkaConnectionError

_WAIT_SECONDS = 0.1
# A task may hand a cancellation on to another that it waits for, and then wait for the next.
_MOST_CANCELS = 20


def brokers_of(client: Any) -> Any:
    """The AIOKafkaClient in a consumer, producer or admin client."""
    return getattr(client, "client", None) or getattr(client, "_client", None)


def tasks_of(client: Any) -> dict[str, asyncio.Task[Any]]:
    """By name, those it is of no use without; of a client that has begun, each runs until its end."""
    return _found(client, {
        "metadata": ("_client", "_sync_task"),
        "metadata of the producer": ("client", "_sync_task"),
        "fetch": ("_fetcher", "_fetch_task"),
        "group": ("_coordinator", "_coordination_task"),
        "send": ("_sender", "_sender_task"),
    })  # fmt: skip


def waits_for_share(client: Any) -> bool:
    """Whether it is a member of a group that has yet to be told which partitions are its own."""
    state = getattr(client, "_subscription", None)
    return state is not None and state.subscription is not None and bool(state.reassignment_in_progress)


async def cut_off(client: Any) -> None:
    """End what a client's own end has left: nothing when that went well.

    Else its tasks would ask brokers for ever, and send what nobody waits for when they come back.
    """
    brokers = brokers_of(client)
    if brokers is None:
        return
    for connection in list(brokers._conns.values()):
        if connection._writer is not None:
            connection._writer.transport.abort()  # a peer that hangs does not take what is still to be written
            connection.close()
    passing = _found(client, {
        "heartbeat": ("_coordinator", "_heartbeat_task"),
        "committed offsets": ("_coordinator", "_commit_refresh_task"),
    })  # fmt: skip
    fetching = getattr(getattr(client, "_fetcher", None), "_pending_tasks", ())
    all_of_them = {*tasks_of(client).values(), *passing.values(), *fetching}
    left = {task for task in all_of_them if not task.done()}
    for _ in range(_MOST_CANCELS):
        if not left:
            break
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_WAIT_SECONDS)
    for task in all_of_them:
        _heard(task)
    # whoever still waits for one of these would do so for ever
    if brokers._md_update_fut is None:
        brokers._md_update_fut = asyncio.get_running_loop().create_future()
    if not brokers._md_update_fut.done():
        brokers._md_update_fut.set_result(False)
    accumulator = getattr(client, "_message_accumulator", None)
    if accumulator is not None:
        batches = [*chain.from_iterable(accumulator._batches.values()), *accumulator._pending_batches]
        accumulator.fail_all(KafkaConnectionError("the client was ended"))
        for batch in batches:
            _heard(batch.future)
            _heard(batch._drain_waiter)


def _heard(future: asyncio.Future[Any]) -> None:
    """There may be nobody who waits for it, which is then no news."""
    if future.done() and not future.cancelled():
        future.exception()


def _found(client: Any, places: dict[str, tuple[str, str]]) -> dict[str, asyncio.Task[Any]]:
    tasks = {name: getattr(getattr(client, part, None), task, None) for name, (part, task) in places.items()}
    return {name: task for name, task in tasks.items() if task is not None}
