"""One request on its way through, and the clock that watches all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum

from lakegate_gateway.errors import ClientTooSlow, Problem, UpstreamTimeout
from lakegate_gateway.routes import Route
from lakegate_gateway.settings import LimitSettings


class ClientGone(Exception):
    """The client hung up: nobody is left to answer."""


class Void(Exception):
    """The credential is no longer good with which a stream of events was asked for."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Sending(IntEnum):
    """Where the request is."""

    DONE = 0
    FROM_CLIENT = 1  # waiting for the client to send
    TO_UPSTREAM = 2  # waiting for the upstream to take it


class Answering(IntEnum):
    """Where the answer is."""

    HEAD = 0
    BODY = 1
    TO_CLIENT = 2  # waiting for the client to take it


class Exchange:
    """The state that the clock reads. A timer for each request and wait would cost more than all of this."""

    __slots__ = (
        "answering",
        "answering_since",
        "client_waited",
        "ended",
        "interruption",
        "limits",
        "loop",
        "received",
        "route",
        "sending",
        "sending_since",
        "started",
        "task",
    )

    def __init__(self, route: Route, limits: LimitSettings, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        now = loop.time()
        self.task = task
        self.loop = loop
        self.route = route
        self.limits = limits
        self.started = now
        self.sending = Sending.DONE
        self.sending_since = now
        self.answering = Answering.HEAD
        self.answering_since = now
        self.received = 0
        self.client_waited = 0.0
        self.interruption: Exception | None = None
        self.ended = False

    def interrupt(self, reason: Exception) -> None:
        """End the exchange from another task; whatever its own task waits for is cancelled."""
        if self.interruption is None and not self.ended:
            self.interruption = reason
            self.task.cancel()

    def overdue(self, now: float) -> Exception | None:
        """What has lasted too long, if anything has."""
        if self.sending is Sending.FROM_CLIENT:
            late: Exception | None = self._client_too_slow(now - self.sending_since)
            if late is not None:
                return late
        elif self.sending is Sending.TO_UPSTREAM and now - self.sending_since > self.route.idle_seconds:
            return UpstreamTimeout(
                f"The {self.route.upstream} service took none of the request for {self.route.idle_seconds:g} s."
            )
        waited = now - max(self.answering_since, self.sending_since)
        if self.answering is Answering.TO_CLIENT:
            if now - self.answering_since > self.route.idle_seconds:
                return ClientGone("it takes none of the answer")
        elif self.sending is Sending.DONE:
            if self.answering is Answering.HEAD and waited > self.route.deadline_seconds:
                return UpstreamTimeout(
                    f"The {self.route.upstream} service gave no answer within {self.route.deadline_seconds:g} s. "
                    "What became of the request is not known; look before you repeat it."
                )
            if self.answering is Answering.BODY and waited > self.route.idle_seconds:
                return UpstreamTimeout(f"The {self.route.upstream} service stopped in the middle of its answer.")
        return None

    def _client_too_slow(self, silent: float) -> ClientTooSlow | None:
        limits = self.limits
        if silent > limits.client_idle_seconds:
            return ClientTooSlow(
                f"Nothing of the body came for {limits.client_idle_seconds:g} s, after {self.received} bytes. "
                "Send the request again."
            )
        waited = self.client_waited + silent
        if waited > limits.client_grace_seconds and self.received < waited * limits.client_min_bytes_per_second:
            return ClientTooSlow(
                f"The body came at under {limits.client_min_bytes_per_second} bytes a second. "
                "Send it again over a faster connection, or in smaller parts."
            )
        return None


@dataclass(slots=True)
class Budget:
    """How many repeats are allowed: a tenth of the requests, and `spare` in a burst, so that they can't pile up."""

    spare: float = 10.0
    tokens: float = 10.0

    def earn(self) -> None:
        if self.tokens < self.spare:
            self.tokens += 0.1

    def spend(self) -> bool:
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
