"""The driver as a process: JSON lines, /metrics while it runs, an orderly end on SIGTERM."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType

from lakegate.rollout.cluster import Cluster
from lakegate.rollout.driver import Driver, SystemClock
from lakegate.rollout.errors import RolloutError
from lakegate.rollout.states import Rollout

DONE, FAILED, TRY_AGAIN = 0, 1, 75  # EX_TEMPFAIL of sysexits.h: the Job starts another
# The next driver counts a phase's time anew: one has to last for the longest, which is twice a watch window of a day.
MOST_SECONDS = 3 * 86_400.0
_LINGER_SECONDS = 20.0  # so that the end is scraped, too
_OURS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """A line per record, with the fields that were given by `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _OURS}
        document = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


@dataclass(frozen=True)
class Process:
    """`key` is what the new colour is read with, `rollout_key` signs decisions.

    `metrics_port` None: nothing is served, and there is no lingering for a last scrape.
    """

    rollout_id: str
    key: str | None = None
    rollout_key: str | None = None
    metrics_port: int | None = None


def run(cluster: Cluster, process: Process) -> int:
    """Drive until the rollout is over; the exit code."""
    from lakegate.rollout.checks import HttpChecks
    from lakegate.rollout.consumers import HttpConsumers

    log = configure_log()
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if process.metrics_port is not None:
        from prometheus_client import start_http_server

        from lakegate.rollout.metrics import REGISTRY

        start_http_server(process.metrics_port, registry=REGISTRY)
    driver = Driver(
        cluster,
        HttpChecks(cluster, key=process.key),
        HttpConsumers(process.rollout_key),
        rollout_id=process.rollout_id,
        identity=identity(),
        clock=StoppableClock(stop),
        stopping=stop.is_set,
    )
    try:
        over = driver.run(MOST_SECONDS)
    except RolloutError as error:
        log.error("ended", extra={"error": f"{type(error).__name__}: {error}"})
        return FAILED
    return _end(over, process, stop, log)


def _end(over: Rollout | None, process: Process, stop: threading.Event, log: logging.Logger) -> int:
    if over is None:
        log.info("stopped", extra={"rollout": process.rollout_id})
        return TRY_AGAIN
    log.info("over", extra={"rollout": over.id, "outcome": over.phase, "reason": over.reason})
    if process.metrics_port is not None:
        stop.wait(_LINGER_SECONDS)
    return DONE


class StoppableClock(SystemClock):
    """Sleeps end when a stop is asked for."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)


def identity() -> str:
    """Of this process alone: a restarted container has its pod's name, and must not take itself for the one before."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def configure_log() -> logging.Logger:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    log = logging.getLogger("lakegate.rollout")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    return log
