"""The request that is being served: its ids, for logs, problems and outgoing calls."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """`trace_id` (32 hex digits), `span_id` (16) and `sampled` follow W3C Trace Context."""

    request_id: str
    trace_id: str
    span_id: str
    sampled: bool = False

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


NO_REQUEST = RequestInfo("", "0" * 32, "0" * 16)

_current: ContextVar[RequestInfo] = ContextVar("lakegate_request", default=NO_REQUEST)


def current() -> RequestInfo:
    """The request (or handled event) of this task; all zeros outside of one."""
    return _current.get()


def enter(info: RequestInfo) -> None:
    """Make `info` current for this task and the tasks that it starts."""
    _current.set(info)
