"""Streams of server-sent events: relayed as any answer is, each in a place of its tenant, as long as its credential.

A request is checked once, at its beginning; these go on for minutes, and a revocation must not wait for their end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import Counter, Gauge
from starlette.types import Receive, Scope, Send

from lakegate_gateway.errors import TooManyEventStreams
from lakegate_gateway.identity.authenticator import Proof
from lakegate_gateway.identity.sessions import Places
from lakegate_gateway.identity.verified import Verified
from lakegate_gateway.relay.headers import Pair
from lakegate_gateway.relay.relay import Relay
from lakegate_gateway.routes import Route

OPEN = Gauge("lakegate_gateway_open_event_streams", "Streams of server-sent events that are being relayed")
STREAMS = Counter(
    "lakegate_gateway_event_streams_total",
    "Streams of server-sent events by how they ended: ended (by the service), closed (by the client), refused, "
    "revoked, broken",
    ["outcome"],
)
_OUTCOMES = {"answered": "ended", "client_gone": "closed", "revoked": "revoked"}


class EventRelay:
    """Bounded in number, here and of one tenant."""

    def __init__(self, relay: Relay, places: Places) -> None:
        self._relay = relay
        self._places = places

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        identity: Sequence[Pair],
        proof: Proof | Verified,
        verify: Callable[[], Awaitable[None]],
    ) -> None:
        """Relay one stream to its end; `verify` raises Problem once it must not go on."""
        try:
            with self._places.place(proof.principal, proof.key_id, proof.ends) as session, OPEN.track_inprogress():
                outcome = await self._relay(scope, receive, send, route, identity, lambda: session.ended(verify))
        except TooManyEventStreams as problem:
            STREAMS.labels("refused").inc()
            await self._relay.refuse(scope, receive, send, route, problem)
            return
        STREAMS.labels(_OUTCOMES.get(outcome, "broken")).inc()
