"""Telling pods whether their consumers are to run, at their management listener."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import httpx
from pydantic import BaseModel, ValidationError

from lakegate.rollout.findings import Report
from lakegate.rollout.world import Pod, Wanted

ANSWER_SECONDS = 3.0
_AT_ONCE = 16


class Consumers(Protocol):
    def tell(self, pods: Sequence[Pod], wanted: Wanted) -> dict[str, Report]:
        """Tell each pod; the reports of those that answered, by name. Telling again changes nothing."""
        ...


class _Answer(BaseModel):
    """What the chassis answers to PUT /consumers."""

    generation: int
    running: bool
    settled: bool


class HttpConsumers:
    def tell(self, pods: Sequence[Pod], wanted: Wanted) -> dict[str, Report]:
        return asyncio.run(_tell_all(pods, wanted))


async def _tell_all(pods: Sequence[Pod], wanted: Wanted) -> dict[str, Report]:
    limits = httpx.Limits(max_connections=_AT_ONCE)
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, limits=limits, trust_env=False) as client:
        answers = await asyncio.gather(*(_tell(client, pod, wanted) for pod in pods))
    return {pod.name: report for pod, report in zip(pods, answers, strict=True) if report is not None}


async def _tell(client: httpx.AsyncClient, pod: Pod, wanted: Wanted) -> Report | None:
    body = {"colour": wanted.colour, "generation": wanted.generation}
    try:
        answer = await client.put(f"{pod.management}/consumers", json=body)
        if answer.status_code in (404, 405):
            return Report(wanted.generation, running=False, settled=True, has_consumers=False)
        answer.raise_for_status()
        told = _Answer.model_validate_json(answer.content)
    except (httpx.HTTPError, ValidationError):
        return None
    return Report(told.generation, told.running, told.settled)
