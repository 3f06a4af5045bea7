"""Telling pods whether their consumers are to run, at their management listener."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Sequence
from typing import Protocol

import httpx
from pydantic import BaseModel, ValidationError

from lakegate.rollout.answers import Unanswered, ask
from lakegate.rollout.findings import Report
from lakegate.rollout.world import Pod, Wanted

ANSWER_SECONDS = 3.0
_AT_ONCE = 16
_BYTES = 64 << 10

log = logging.getLogger("lakegate.rollout")


class Consumers(Protocol):
    def tell(self, pods: Sequence[Pod], wanted: Wanted) -> dict[str, Report]:
        """Tell each pod; the reports of those that answered, by name. Telling again changes nothing."""
        ...


class _Answer(BaseModel):
    """What the chassis answers to PUT and GET /consumers."""

    generation: int
    running: bool
    settled: bool


class HttpConsumers:
    """`key` signs what is told. Pods believe nobody without it, but read their mounted file again, which is later."""

    def __init__(self, key: str | None) -> None:
        self._key = key.strip().encode() if key else None

    def tell(self, pods: Sequence[Pod], wanted: Wanted) -> dict[str, Report]:
        return asyncio.run(_tell_all(pods, wanted, self._key))


async def _tell_all(pods: Sequence[Pod], wanted: Wanted, key: bytes | None) -> dict[str, Report]:
    limits = httpx.Limits(max_connections=_AT_ONCE)
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, limits=limits, trust_env=False) as client:
        answers = await asyncio.gather(*(_tell(client, pod, wanted, key) for pod in pods))
    return {pod.name: report for pod, report in zip(pods, answers, strict=True) if report is not None}


async def _tell(client: httpx.AsyncClient, pod: Pod, wanted: Wanted, key: bytes | None) -> Report | None:
    body = json.dumps({"colour": wanted.colour, "generation": wanted.generation}).encode()
    headers = {"content-type": "application/json"}
    if key:
        headers["lakegate-signature"] = hmac.new(key, body, hashlib.sha256).hexdigest()
    try:
        status, text = await ask(
            client,
            "PUT",
            f"{pod.management}/consumers",
            seconds=ANSWER_SECONDS,
            most_bytes=_BYTES,
            content=body,
            headers=headers,
        )
        if status == 401:
            # it follows its file, within a minute or so
            log.warning("not_believed", extra={"pod": pod.name, "signed": bool(key)})
        if status in (404, 405):
            return Report(wanted.generation, running=False, settled=True, has_consumers=False)
        refused = status == httpx.codes.CONFLICT
        if refused:
            status, text = await ask(
                client, "GET", f"{pod.management}/consumers", seconds=ANSWER_SECONDS, most_bytes=_BYTES
            )
        if not httpx.codes.is_success(status):
            return None
        told = _Answer.model_validate_json(text)
    except (Unanswered, ValidationError):
        return None
    return Report(told.generation, told.running, told.settled, refused=refused)
