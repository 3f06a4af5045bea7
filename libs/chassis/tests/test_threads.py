"""What leaves a thread, and how."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from lakegate_chassis.threads import in_thread

# as long as a caller that is never woken would wait
PATIENCE_SECONDS = 10
seen: ContextVar[str] = ContextVar("seen", default="")


def first(items: list[int]) -> int:
    return next(iter(items))


async def test_a_leaked_stop_iteration_reaches_the_caller() -> None:
    assert await in_thread(first, [7]) == 7
    with ThreadPoolExecutor(1) as threads:
        for executor in (None, threads):
            with pytest.raises(RuntimeError, match="first leaked a StopIteration"):
                await asyncio.wait_for(in_thread(first, [], executor=executor), PATIENCE_SECONDS)


async def test_other_errors_and_the_context_pass_as_they_are() -> None:
    seen.set("trace")
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as threads:
        assert await in_thread(seen.get, executor=threads) == "trace"
        thread = await in_thread(threading.current_thread, executor=threads)
        assert thread.name.startswith("mine")
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)
