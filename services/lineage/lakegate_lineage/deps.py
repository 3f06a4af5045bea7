"""What endpoints ask for, named once."""

from __future__ import annotations

from typing import Annotated

import asyncpg
from fastapi import Depends, Request

from lakegate_chassis.auth import Caller as Caller
from lakegate_lineage.events.writer import EventWriter
from lakegate_lineage.resources import Resources
from lakegate_lineage.settings import LineageSettings


def _resources(request: Request) -> Resources:
    found = request.app.state.resources
    assert isinstance(found, Resources)
    return found


def _settings(request: Request) -> LineageSettings:
    found = request.app.state.settings
    assert isinstance(found, LineageSettings)
    return found


def _pool(request: Request) -> asyncpg.Pool:
    return _resources(request).pool


def _writer(request: Request) -> EventWriter:
    return _resources(request).writer


Pool = Annotated[asyncpg.Pool, Depends(_pool)]
Writer = Annotated[EventWriter, Depends(_writer)]
Settings = Annotated[LineageSettings, Depends(_settings)]
