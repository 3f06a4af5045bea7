"""Blocking code of libraries, called from the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any, executor: Executor | None = None) -> T:
    """`asyncio.to_thread`, or in the threads of `executor`, for a function that may leak a StopIteration: it is raised
    as a RuntimeError, as out of a generator (PEP 479).

    pyiceberg looks things up with a bare next(). asyncio can't put the StopIteration of a missing one into a future:
    whoever awaits that is never woken.
    """
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(executor, context.run, _contained, function, *args)


def _contained(function: Callable[..., T], *args: Any) -> T:
    try:
        return function(*args)
    except StopIteration as error:
        raise RuntimeError(f"{getattr(function, '__qualname__', function)!s} leaked a StopIteration") from error
