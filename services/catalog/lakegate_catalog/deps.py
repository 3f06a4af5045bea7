"""What endpoints ask for, named once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from lakegate_catalog.resources import Resources


async def _resources(request: Request) -> Resources:
    # async, since FastAPI runs a plain function in a worker thread for every request
    resources = request.app.state.resources
    assert isinstance(resources, Resources)
    return resources


Services = Annotated[Resources, Depends(_resources)]
