"""Structured logs: one JSON object a line on standard output, with the ids of the request."""

from __future__ import annotations

import asyncio
import atexit
import io
import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from lakegate_chassis import context
from lakegate_chassis.metrics import LOG_RECORDS
from lakegate_chassis.settings import ServiceSettings

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

log: FilteringBoundLogger = structlog.get_logger()

_level = logging.INFO


def configure(settings: ServiceSettings, service: str) -> None:
    """Send our logs and those of libraries through one pipeline."""

    def add_ids(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        info = context.current()
        event["service"] = service
        if info is not context.NO_REQUEST:
            event.setdefault("request_id", info.request_id)
            event.setdefault("trace_id", info.trace_id)
            event.setdefault("span_id", info.span_id)
        return event

    shared: list[Any] = [
        structlog.processors.add_log_level,
        _count,
        add_ids,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if settings.log_format == "json":
        render: Any = structlog.processors.JSONRenderer(serializer=_dumps)
    else:
        render = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    structlog.configure(
        processors=[_filter_level, *shared, render],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    # uvicorn's own access log would be a second line for each request
    logging.getLogger("uvicorn.access").disabled = True
    set_level(settings.log_level)


def set_level(level: str) -> None:
    """Change the level of a running process: debug, info, warning or error."""
    global _level
    _level = LEVELS[level]
    # libraries at debug would log payloads; ours are enough
    logging.getLogger().setLevel(max(_level, logging.INFO if level == "debug" else logging.WARNING))


def threshold() -> int:
    """The level in force, as the number that `logging` uses."""
    return _level


def level() -> str:
    """The level in force."""
    return next(name for name, value in LEVELS.items() if value == _level)


def _filter_level(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if LEVELS.get(method, logging.ERROR) < _level:
        raise structlog.DropEvent
    return event


def _count(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    level = str(event.get("level", "error"))
    LOG_RECORDS.labels(level if level in LEVELS else "error").inc()
    return event


def _dumps(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


# One system call for each access line would cost as much as making it.
FLUSH_SECONDS = 0.05
FLUSH_LINES = 256
_lines: list[bytes] = []


def write_soon(line: bytes) -> None:
    """Write a line to standard output within FLUSH_SECONDS, together with others. Call it in the event loop."""
    _lines.append(line)
    if len(_lines) == 1:
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, flush)
    elif len(_lines) >= FLUSH_LINES:
        flush()


def flush() -> None:
    """Write what `write_soon` holds."""
    if _lines:
        text = b"\n".join(_lines).decode() + "\n"
        _lines.clear()
        sys.stdout.write(text)
        sys.stdout.flush()


atexit.register(flush)
