"""What was found: one line each, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    # nobody was allowed to look, or it can't be seen from outside
    UNKNOWN = "unknown"
    FAILED = "failed"


class Finding(BaseModel):
    """`remedy` says what to do; empty where nothing is to be done."""

    model_config = ConfigDict(frozen=True)

    area: str
    state: State
    found: str
    remedy: str = ""


def fine(area: str, found: str) -> Finding:
    return Finding(area=area, state=State.OK, found=found)


def warning(area: str, found: str, remedy: str) -> Finding:
    return Finding(area=area, state=State.WARNING, found=found, remedy=remedy)


def unknown(area: str, found: str, remedy: str) -> Finding:
    return Finding(area=area, state=State.UNKNOWN, found=found, remedy=remedy)


def failed(area: str, found: str, remedy: str) -> Finding:
    return Finding(area=area, state=State.FAILED, found=found, remedy=remedy)
