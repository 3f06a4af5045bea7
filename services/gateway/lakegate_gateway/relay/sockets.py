"""WebSockets, relayed by aiohttp's client: two loops that hand messages on, until either side goes.

Or until the credential is void that the socket was opened with.

A client that sends faster than the service answers waits by TCP: a message is read from it once the one before is on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from urllib.parse import unquote

import aiohttp
import orjson
from prometheus_client import Counter, Gauge
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from lakegate_chassis.health import Health
from lakegate_chassis.logs import log
from lakegate_chassis.problems import MEDIA_TYPE, Problem, problem_response
from lakegate_gateway.errors import BadUpstream, TooManySockets, UpstreamUnreachable
from lakegate_gateway.identity.authenticator import Proof
from lakegate_gateway.identity.sessions import Places
from lakegate_gateway.identity.verified import Verified
from lakegate_gateway.relay.headers import Pair
from lakegate_gateway.routes import Route

OPEN = Gauge("lakegate_gateway_open_sockets", "WebSockets that are being relayed")
SOCKETS = Counter(
    "lakegate_gateway_sockets_total",
    "WebSockets by how they ended: closed, refused, unreachable, drained, revoked",
    ["outcome"],
)
# Where a service puts the problem of a refused handshake: the client library shows an answer's headers, not its body.
PROBLEM_HEADER = "lakegate-problem"
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
HEARTBEAT_SECONDS = 20.0
NORMAL, GOING_AWAY, ABNORMAL, NOT_ALLOWED, TRY_AGAIN = 1000, 1001, 1006, 1008, 1012
LONGEST_REASON = 120  # RFC 6455 5.5: 123 bytes
_UNSENDABLE = (1004, 1005, ABNORMAL, 1015)  # RFC 6455 7.4.1: never on the wire


class SocketRelay:
    """Bounded in number, and in the size of a message."""

    def __init__(self, upstreams: Mapping[str, str], message_bytes: int, places: Places) -> None:
        self._upstreams = upstreams
        self._message_bytes = message_bytes
        self._places = places
        self._session: aiohttp.ClientSession | None = None

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        identity: Sequence[Pair],
        health: Health,
        proof: Proof | Verified,
        verify: Callable[[], Awaitable[None]],
    ) -> None:
        """Relay one socket from its handshake to its end; `verify` raises Problem once it must not go on."""
        client = WebSocket(scope, receive, send)
        try:
            with self._places.place(proof.principal, proof.key_id, proof.ends) as session, OPEN.track_inprogress():
                async with AsyncExitStack() as stack:
                    upstream = await self._connect(client, route, identity, stack)
                    if upstream is not None:
                        await client.accept(subprotocol=upstream.protocol)
                        await self._pass(client, upstream, health, session.ended(verify))
        except TooManySockets as problem:
            await self.refuse(client, problem_response(problem, instance=scope["path"]))

    async def refuse(self, client: WebSocket, answer: Response) -> None:
        """End the handshake with an HTTP answer."""
        SOCKETS.labels("refused").inc()
        await client.send_denial_response(answer)

    async def _connect(
        self, client: WebSocket, route: Route, identity: Sequence[Pair], stack: AsyncExitStack
    ) -> aiohttp.ClientWebSocketResponse | None:
        scope = client.scope
        url = self._upstreams[route.upstream].replace("http", "ws", 1) + scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            url += "?" + scope["query_string"].decode("latin-1")
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connecting = self._session.ws_connect(
                    url,
                    headers={name.decode(): value.decode("latin-1") for name, value in identity},
                    protocols=scope.get("subprotocols", ()),
                    heartbeat=HEARTBEAT_SECONDS,
                    max_msg_size=self._message_bytes,
                )
                return await stack.enter_async_context(connecting)
        except aiohttp.WSServerHandshakeError as error:
            await self.refuse(client, _refusal(error, scope["path"], route.upstream))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            SOCKETS.labels("unreachable").inc()
            problem = UpstreamUnreachable(f"{route.upstream} can't be reached: {type(error).__name__}.")
            await client.send_denial_response(problem_response(problem, instance=scope["path"]))
        return None

    async def _pass(
        self,
        client: WebSocket,
        upstream: aiohttp.ClientWebSocketResponse,
        health: Health,
        ended: Coroutine[None, None, Problem],
    ) -> None:
        up = asyncio.create_task(_up(client, upstream))
        down = asyncio.create_task(_down(client, upstream))
        drained = asyncio.create_task(health.draining.wait())
        void = asyncio.create_task(ended)
        tasks = {up, down, drained, void}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if void.done() and not up.done() and not down.done():
                problem = void.result()
                SOCKETS.labels("revoked").inc()
                log.info("socket_revoked", problem=problem.slug)
                why = NOT_ALLOWED if problem.status < 500 else TRY_AGAIN
                await _close(client, why, problem.detail[:LONGEST_REASON])
                return
            if up.done():
                # what the service still has to say to what it was sent is said, if anybody listens
                await asyncio.wait({down}, timeout=CLOSE_SECONDS)
            SOCKETS.labels("drained" if drained.done() and not up.done() and not down.done() else "closed").inc()
            code = upstream.close_code if down.done() else None
            if not up.done():
                await _close(client, GOING_AWAY if drained.done() else code)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await upstream.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _up(client: WebSocket, upstream: aiohttp.ClientWebSocketResponse) -> None:
    """From the client to the service, until the client has gone."""
    while True:
        message = await client.receive()
        if message["type"] == "websocket.disconnect":
            await upstream.close(code=NORMAL)
            return
        try:
            if message.get("bytes") is not None:
                await upstream.send_bytes(message["bytes"])
            else:
                await upstream.send_str(message["text"])
        except (ConnectionError, aiohttp.ClientError):
            await asyncio.Event().wait()  # the other loop sees why, and ends this one


async def _down(client: WebSocket, upstream: aiohttp.ClientWebSocketResponse) -> None:
    """From the service to the client, until the service has closed."""
    async for message in upstream:
        try:
            if message.type is aiohttp.WSMsgType.TEXT:
                await client.send_text(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await client.send_bytes(message.data)
        except (RuntimeError, OSError):
            return  # the client has gone: the other loop has seen it, too


async def _close(client: WebSocket, code: int | None, reason: str | None = None) -> None:
    sendable = code if code is not None and code not in _UNSENDABLE else TRY_AGAIN
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close(sendable, reason)
    except (RuntimeError, OSError, TimeoutError):
        return  # closed by the other side at the same time


def _refusal(error: aiohttp.WSServerHandshakeError, path: str, upstream: str) -> Response:
    """The service's own problem, as it was; a service that says nothing of the kind is broken."""
    encoded = error.headers.get(PROBLEM_HEADER, "") if error.headers else ""
    try:
        body = orjson.loads(unquote(encoded))
        return Response(orjson.dumps(body), int(body["status"]), media_type=MEDIA_TYPE)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        problem: Problem = BadUpstream(f"{upstream} refused the WebSocket with {error.status}, and did not say why.")
        return problem_response(problem, instance=path)
