"""The gateway: one ASGI callable, which relays what the routing table names and serves the rest itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from lakegate_chassis import context, tracing
from lakegate_chassis.app import service_app
from lakegate_chassis.logs import log
from lakegate_chassis.middleware import RequestMiddleware
from lakegate_chassis.postgres import ping
from lakegate_chassis.problems import NotFound, Problem, problem_response
from lakegate_chassis.settings import load
from lakegate_contracts.identity import FILES_PATH, SIGNATURE_HEADER, SIGNED_HOST_HEADER, Principal
from lakegate_gateway.accounts import endpoints as accounts
from lakegate_gateway.body_limit import BodyLimit
from lakegate_gateway.dialects import render
from lakegate_gateway.errors import Forbidden, OAuthError
from lakegate_gateway.identity.authenticator import Proof
from lakegate_gateway.identity.verified import Verified
from lakegate_gateway.keys import endpoints as keys
from lakegate_gateway.oauth import endpoints as oauth
from lakegate_gateway.overview import endpoints as overview
from lakegate_gateway.pages import endpoints as pages
from lakegate_gateway.resources import Resources, open_resources
from lakegate_gateway.routes import FILES, Dialect, Route, match
from lakegate_gateway.settings import GatewaySettings

_ROUTE = "lakegate.route"


class Gateway:
    """The dispatcher. Requests to relay pass the chassis' middleware and nothing of FastAPI."""

    def __init__(self, own: FastAPI) -> None:
        self.own = own
        self.state = own.state
        self._relayed: ASGIApp = RequestMiddleware(
            self._relay,
            service="gateway",
            health=own.state.health,
            tenant_classes=own.state.settings.tenant_classes,
            edge=True,
        )

    @property
    def resources(self) -> Resources:
        """What lifespan opened."""
        return cast(Resources, self.state.resources)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route = FILES if is_signed(scope) else match(scope["path"])
            if route is not None:
                scope["app"] = self
                scope[_ROUTE] = route
                scope["route_template"] = route.prefix
                await self._relayed(scope, receive, send)
                return
        elif scope["type"] == "websocket":
            await self._relay_socket(scope, receive, send)
            return
        await self.own(scope, receive, send)

    async def _relay_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket has no middleware: its ids are made, and its end is logged, here."""
        resources = self.resources
        info, _ = tracing.start("", "")
        context.enter(info)
        route = match(scope["path"])
        try:
            if route is None or not route.sockets:
                raise NotFound(f"There is no WebSocket at {scope['path'][:200]}.")
            header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
            client = scope.get("client")
            address = client[0] if client else "unknown"
            proof = await resources.authenticator.prove(header, address)
            principal = proof.principal
            authorize(principal, route, "POST", scope["path"])
        except Problem as problem:
            refusal = problem_response(problem, instance=scope["path"])
            await resources.sockets.refuse(WebSocket(scope, receive, send), refusal)
            return

        async def verify() -> None:
            found = await resources.authenticator.authenticate(header, address)
            authorize(found, route, "POST", scope["path"])

        began = time.monotonic()
        log.info("socket_opened", path=scope["path"], tenant=principal.tenant, subject=principal.subject)
        identity = [
            *resources.tokens.for_service(principal, route.upstream),
            (b"x-request-id", info.request_id.encode()),
            (b"traceparent", info.traceparent.encode()),
        ]
        try:
            await resources.sockets(scope, receive, send, route, identity, self.state.health, proof, verify)
        finally:
            log.info("socket_closed", path=scope["path"], seconds=round(time.monotonic() - began, 3))

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route = scope[_ROUTE]
        resources = self.resources
        if route is FILES:
            await self._relay_signed(scope, receive, send)
            return
        header = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                header = value
                break
        try:
            proof: Proof | Verified | None = resources.authenticator.known(header) if header else None
            if proof is None:
                client = scope.get("client")
                proof = await resources.authenticator.prove(header, client[0] if client else "unknown")
            principal = proof.principal
            scope["principal"] = principal
            authorize(principal, route, scope["method"], scope["path"])
        except Problem as problem:
            await resources.relay.refuse(scope, receive, send, route, problem)
            return
        info = context.current()
        identity = [
            *resources.tokens.for_service(principal, route.upstream),
            (b"x-request-id", info.request_id.encode()),
            (b"traceparent", info.traceparent.encode()),
        ]
        if route.dialect is Dialect.ICEBERG:
            identity.append(
                resources.tokens.for_files(principal, key_id=proof.key_id, credential_id=proof.credential_id)
            )
        if not route.is_events(scope["method"], scope["path"]):
            await resources.relay(scope, receive, send, route, identity)
            return

        async def verify() -> None:
            client = scope.get("client")
            found = await resources.authenticator.authenticate(header, client[0] if client else "unknown")
            authorize(found, route, scope["method"], scope["path"])

        await resources.events(scope, receive, send, route, identity, proof, verify)

    async def _relay_signed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An S3 request of an Iceberg client. The catalog gets what was signed: the host, and the signature itself."""
        resources = self.resources
        headers = dict(scope["headers"])
        try:
            principal = await resources.authenticator.authenticate_files(headers.get(b"x-amz-security-token"))
        except Problem as problem:
            await resources.relay.refuse(scope, receive, send, FILES, problem)
            return
        scope["principal"] = principal
        scope["raw_path"] = FILES_PATH.encode() + scope["raw_path"]
        info = context.current()
        identity = [
            *resources.tokens.for_service(principal, FILES.upstream),
            (SIGNATURE_HEADER.encode(), headers[b"authorization"]),
            (SIGNED_HOST_HEADER.encode(), headers.get(b"host", b"")),
            (b"x-request-id", info.request_id.encode()),
            (b"traceparent", info.traceparent.encode()),
        ]
        await resources.relay(scope, receive, send, FILES, identity)


def is_signed(scope: Scope) -> bool:
    """Whether an S3 client sent it: AWS Signature Version 4, in a header."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            signed: bool = value.startswith(b"AWS4-HMAC-SHA256 ")
            return signed
    return False


def authorize(principal: Principal, route: Route, method: str, path: str) -> None:
    """Check the scope, and tenant and namespace where the path names them. Raises Forbidden."""
    tenant, namespace = route.names(method, path)
    if tenant is not None and tenant != principal.tenant:
        raise Forbidden(
            f"The prefix {tenant[:200]!r} is not your tenant's. Take the one that /iceberg/v1/config gives."
        )
    needed = route.scopes(method, path)
    for scope in needed:
        if principal.allows(scope, namespace):
            return
    where = f" in the namespace {namespace[:200]}" if namespace else ""
    raise Forbidden(
        f"This needs the scope {' or '.join(needed)}{where}; {principal.subject} holds: "
        f"{', '.join(principal.scopes) or 'none'}."
    )


def by_path(scope: Scope, problem: Problem) -> Response:
    """What is refused outside of relay and endpoints, as the path's clients expect it."""
    path = scope["path"]
    if path in oauth.TOKEN_PATHS:
        return oauth.of_problem(problem)
    route = match(path)
    if route is None:
        return problem_response(problem, instance=path)
    status, headers, body = render(problem, route.dialect, method=scope["method"], path=path)
    answer = Response(body, status)
    answer.raw_headers[:] = headers
    return answer


def create_app(settings: GatewaySettings | None = None, resources: Resources | None = None) -> Gateway:
    """The gateway; `resources` that are passed are used as they are and left open."""
    settings = settings or load(GatewaySettings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if resources is not None:
            app.state.resources = resources
            yield
            return
        async with open_resources(settings) as opened:
            app.state.resources = opened
            # the upstreams are no condition: without one, the others' paths still work
            app.state.health.add_checks({"postgres": partial(ping, opened.pool)})
            yield

    app = service_app(service="gateway", title="Lakegate", settings=settings, lifespan=lifespan, dialect=by_path)
    # the merged document takes the place of our own, which stays its source
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/openapi.json"]
    # innermost: within ids, log and metrics, and before FastAPI
    app.user_middleware.append(Middleware(BodyLimit, settings.limits))
    app.add_exception_handler(OAuthError, oauth.on_oauth_error)
    if resources is not None:
        app.state.resources = resources
    for noun in (oauth, keys, accounts, overview, pages):
        app.include_router(noun.router)
    return Gateway(app)
