"""What endpoints ask for, named once."""

from __future__ import annotations

from typing import Annotated

import asyncpg
from fastapi import Depends, Request

from lakegate_chassis.auth import Caller as Caller
from lakegate_chassis.eventlog import EventLog
from lakegate_lineage.resources import Resources
from lakegate_lineage.settings import LineageSettings


def resources_of(request: Request) -> Resources:
    """What the app of this request holds open."""
    found = request.app.state.resources
    assert isinstance(found, Resources)
    return found


def settings_of(request: Request) -> LineageSettings:
    found = request.app.state.settings
    assert isinstance(found, LineageSettings)
    return found


async def _pool(request: Request) -> asyncpg.Pool:
    # async, since FastAPI runs a plain function in a worker thread for every request
    return resources_of(request).pool


async def _log(request: Request) -> EventLog:
    return resources_of(request).event_log


async def _settings(request: Request) -> LineageSettings:
    return settings_of(request)


Pool = Annotated[asyncpg.Pool, Depends(_pool)]
Log = Annotated[EventLog, Depends(_log)]
Settings = Annotated[LineageSettings, Depends(_settings)]
