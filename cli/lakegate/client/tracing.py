"""The trace that a call begins, or goes on with (W3C Trace Context): the server's spans become its children."""

from __future__ import annotations

import secrets
import sys


class CallTrace:
    """One call's trace id; each attempt at it is a span of its own.

    In a process that uses OpenTelemetry, the trace is that of the current span. Else it is a new one, which the
    gateway samples as it is set to; `record` asks it to record this one.
    """

    def __init__(self, *, record: bool) -> None:
        self._given = _current_span()
        self._trace_id = secrets.token_hex(16)
        self._flags = "01" if record else "00"

    def traceparent(self) -> str:
        """The header for the next attempt."""
        return self._given or f"00-{self._trace_id}-{secrets.token_hex(8)}-{self._flags}"


def _current_span() -> str | None:
    # who has not imported it has no span, and need not pay for its import
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    ids = api.get_current_span().get_span_context()
    return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{int(ids.trace_flags) & 1:02x}" if ids.is_valid else None
