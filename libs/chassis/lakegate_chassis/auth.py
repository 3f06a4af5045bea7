"""Who calls this service, from the internal token; every path needs one unless it is named here."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from lakegate_chassis.health import HEALTH_PATHS
from lakegate_chassis.logs import log
from lakegate_chassis.problems import ClocksApart, Forbidden, Problem, Unauthorized, answer_to
from lakegate_chassis.tokens import ClockSkew, InvalidToken, TokenVerifier
from lakegate_contracts.identity import Principal
from lakegate_contracts.identity import Scope as Permission

OPEN_PATHS = HEALTH_PATHS | {"/openapi.json"}


class AuthMiddleware:
    """Refuse requests without a valid internal token, before any of the body is read."""

    def __init__(self, app: ASGIApp, verifier: TokenVerifier) -> None:
        self.app = app
        self.verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        try:
            scope["principal"] = self.verifier.verify(_bearer(scope))
        except InvalidToken as error:
            answer = answer_to(scope, _problem(error))
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(answer)
                return
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _problem(error: InvalidToken) -> Problem:
    if not isinstance(error, ClockSkew):
        return Unauthorized(f"This service takes internal tokens only: {error}.")
    # not the client's fault, and over as soon as the clocks agree: 401 would have it look for other credentials
    log.error("clocks_apart", skew_seconds=error.seconds)
    return ClocksApart(
        f"The clocks of two services are some {abs(error.seconds)} s apart: {error}. Nothing was done; send the "
        "request again once the clocks are set.",
        retry_after=5,
        skew_seconds=error.seconds,
    )


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and token:
                return str(token)
    raise InvalidToken("no bearer token was sent")


def caller(request: Request) -> Principal:
    """The principal that AuthMiddleware found."""
    principal = request.scope["principal"]
    assert isinstance(principal, Principal)
    return principal


async def _caller(request: Request) -> Principal:
    # async, since FastAPI runs a plain function in a worker thread for every request
    return caller(request)


Caller = Annotated[Principal, Depends(_caller)]


def require(principal: Principal, permission: Permission, namespace: str | None = None) -> None:
    """Raise Forbidden unless the principal holds the scope, for `namespace` where one is given."""
    if not principal.allows(permission, namespace):
        where = f" in namespace {namespace}" if namespace else ""
        raise Forbidden(
            f"This needs the scope {permission.value}{where}; the token of {principal.subject} holds: "
            f"{', '.join(principal.scopes) or 'none'}."
        )
