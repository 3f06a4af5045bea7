"""All relayed requests of a process: their upstreams, and the clock that watches them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from prometheus_client import Counter
from starlette.types import Receive, Scope, Send

from lakegate_chassis.metrics import UPSTREAM_CALLS
from lakegate_chassis.problems import Problem, unforeseen
from lakegate_gateway.relay.call import Call
from lakegate_gateway.relay.exchange import Budget, Void
from lakegate_gateway.relay.headers import Pair
from lakegate_gateway.relay.upstream import Upstream
from lakegate_gateway.routes import Route
from lakegate_gateway.settings import LimitSettings

TICK_SECONDS = 0.1
# A client that waits longer than this is watched for hanging up; for the others it isn't worth a task.
WATCH_AFTER_SECONDS = 0.1


class Relay:
    """Pass requests on to services and their answers back, piece by piece, both under way at once."""

    def __init__(self, upstreams: Mapping[str, Upstream], limits: LimitSettings) -> None:
        self.upstreams = upstreams
        self._limits = limits
        self._under_way: set[Call] = set()
        self._ticking = False
        self.budget = Budget()
        self._outcomes: dict[tuple[str, str], Counter] = {}
        # asked for once: it costs a system call each time
        self._loop = asyncio.get_running_loop()

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        identity: Sequence[Pair],
        void: Callable[[], Awaitable[Problem]] | None = None,
    ) -> str:
        """Relay one request. `identity` is added to its headers, in place of what the client sent of them.

        Returns the outcome in a word. What `void` comes to ends the answer in its middle.
        """
        call = Call(scope, receive, send, route, self._limits, self._loop)
        self.budget.earn()
        self._under_way.add(call)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_SECONDS, self._tick)
        watch = self._loop.create_task(_end_when(call, void)) if void is not None else None
        try:
            outcome = await call.run(self.upstreams[route.upstream], identity, self.budget)
        except asyncio.CancelledError:
            if call.interruption is None:
                raise
            call.task.uncancel()
            outcome = await call.give_up(call.interruption)
        finally:
            if watch is not None:
                watch.cancel()
            call.stop()
            self._under_way.discard(call)
        self._count(route.upstream, outcome)
        return outcome

    async def refuse(self, scope: Scope, receive: Receive, send: Send, route: Route, problem: Problem) -> None:
        """Answer a request that goes nowhere, in the route's dialect; what it still sends is discarded, bounded."""
        call = Call(scope, receive, send, route, self._limits, self._loop)
        await call.refuse(problem)

    def _tick(self) -> None:
        now = self._loop.time()
        for call in self._under_way:
            late = call.overdue(now)
            if late is not None:
                call.interrupt(late)
            elif now - call.started > WATCH_AFTER_SECONDS:
                call.start_watching()
        self._ticking = bool(self._under_way)
        if self._ticking:
            self._loop.call_later(TICK_SECONDS, self._tick)

    def _count(self, upstream: str, outcome: str) -> None:
        # looking a label up costs more than the count itself
        counter = self._outcomes.get((upstream, outcome))
        if counter is None:
            counter = self._outcomes[upstream, outcome] = UPSTREAM_CALLS.labels(upstream, outcome)
        counter.inc()

    def close(self) -> None:
        """Close the idle connections to the services."""
        for upstream in self.upstreams.values():
            upstream.close()


async def _end_when(call: Call, void: Callable[[], Awaitable[Problem]]) -> None:
    try:
        problem = await void()
    except Exception as error:  # noqa: BLE001 - a stream that nobody watches any more must not go on
        problem = unforeseen(error)
    call.interrupt(Void(problem))
