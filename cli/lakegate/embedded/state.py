"""state.json: what runs now, for `lakegate status`, `down`, `demo`, and for the next `up` after a crash."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from lakegate.embedded import lock
from lakegate.embedded.layout import Home
from lakegate.profiles import write_private


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"


class ProcessState(BaseModel):
    """One child. `started` is the kernel's start time of the pid (seconds since 1970), which tells a reused pid."""

    name: str
    phase: Phase = Phase.STARTING
    pid: int | None = None
    started: float | None = None
    port: int
    management_port: int | None = None
    log: Path
    restarts: int = 0
    last_exit: str | None = None


class SuiteState(BaseModel):
    """The whole suite; `ready_seconds` is how long the start took."""

    pid: int
    phase: Phase = Phase.STARTING
    url: str
    profile: str
    version: str
    started_at: datetime
    ready_seconds: float | None = None
    processes: dict[str, ProcessState] = {}


def write_state(home: Home, state: SuiteState) -> None:
    write_private(home.state, state.model_dump_json(indent=2) + "\n")


def read_state(home: Home) -> SuiteState | None:
    """What was written last, whether or not it still runs; None when there is none or it can't be read."""
    try:
        return SuiteState.model_validate_json(home.state.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def running(home: Home) -> SuiteState | None:
    """The state of a suite that runs now, None otherwise."""
    pid = lock.holder(home.lock)
    state = read_state(home)
    return state if state is not None and state.pid == pid else None
