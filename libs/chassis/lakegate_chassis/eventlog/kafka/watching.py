"""A client that has come to nothing is given up, so that the supervisor of its loop has another made.

aiokafka recovers from much, and says nothing of what it does not recover from: who reads from a consumer whose inner
task has ended waits for ever, or is given no records for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from lakegate_chassis.eventlog.kafka.inner import brokers_of, tasks_of, waits_for_share

LOOK_SECONDS = 1.0
# A client asks for metadata every 10 s, and a group that shares anew waits 30 s for its members. After so long without
# either, another client asks; brokers that are away then may come back, and get the whole time again.
ASK_SECONDS = 20.0
_ANSWERS = 3
_ANSWER_SECONDS = 10.0

Others = Callable[[], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def watched(client: Any, others: Others) -> AsyncIterator[None]:
    """Raises ConnectionError in the block when the client has lost an inner task; or when it has had no metadata, or
    no share of its group, for a minute in which brokers answered another client (which `others` makes) each time. With
    all brokers away nothing is raised: it goes on by itself when they are back.
    """
    loop = asyncio.get_running_loop()
    watching = loop.create_task(_watch(client, others), name="kafka-watch")
    try:
        async with asyncio.timeout(None) as patience:

            def give_up(_: object) -> None:
                patience.reschedule(loop.time())

            watching.add_done_callback(give_up)
            try:
                yield
            finally:
                watching.remove_done_callback(give_up)
    except TimeoutError:
        if watching.done():
            watching.result()
        raise
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        if not watching.cancelled():
            watching.exception()  # the block may have ended of something else by then


async def _watch(client: Any, others: Others) -> None:
    loop = asyncio.get_running_loop()
    cluster = brokers_of(client).cluster
    heard = shared = loop.time()
    answers = 0

    def hear(_: object) -> None:
        nonlocal heard
        heard = loop.time()

    cluster.add_listener(hear)
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for name, task in tasks_of(client).items():
                if task.done():
                    raise ConnectionError(f"Kafka: the client's {name} task has ended") from _cause(task)
            if not waits_for_share(client):
                shared = loop.time()
            silent = loop.time() - min(heard, shared)
            if silent < ASK_SECONDS:
                answers = 0
            elif silent >= ASK_SECONDS * (answers + 1):
                if not await _answered(others):
                    heard = shared = loop.time()
                    answers = 0
                    continue
                answers += 1
                if answers == _ANSWERS:
                    lacks = "metadata" if heard < shared else "share of its group"
                    raise ConnectionError(
                        f"Kafka: brokers answer, and this client has had no {lacks} for {silent:.0f} s"
                    )
    finally:
        cluster.remove_listener(hear)


def _cause(ended: asyncio.Task[Any]) -> BaseException | None:
    return None if ended.cancelled() else ended.exception()


async def _answered(others: Others) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), others():
            return True
    except (ConnectionError, TimeoutError):
        return False
