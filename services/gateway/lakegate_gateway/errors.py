"""Every problem that the gateway itself answers.

Problem
├── Unauthorized 401          no credential, or one that is not (or no longer) valid
├── Forbidden 403             valid, but without the scope, the namespace or the tenant
├── KeyNotFound, UserNotFound, ClientNotFound 404
├── ClientTooSlow 408         the body stopped, or trickles (slow-loris)
├── NameTaken 409             a user or client of that name exists
├── TooLarge 413              the body is over the route's limit
├── InvalidScope 422          no such scope, or a pattern that is none
├── TooManyRequests 429       too many failed logins
├── BadUpstream 502           the service broke off or answered no HTTP: what became of the request is unknown
├── TooManyEventStreams 503   no room for another stream of server-sent events
├── TooManySockets 503        no room for another WebSocket
├── UpstreamUnreachable 503   nobody took the request: not a byte of it was sent
└── UpstreamTimeout 504       no answer in time: what became of the request is unknown
OAuthError                    RFC 6749 5.2, on the token endpoints only
"""

from __future__ import annotations

from lakegate_chassis.problems import (
    BadUpstream,
    ClientTooSlow,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    Problem,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UpstreamTimeout,
)

__all__ = [
    "BadUpstream",
    "ClientNotFound",
    "ClientTooSlow",
    "Forbidden",
    "InvalidRequest",
    "InvalidScope",
    "KeyNotFound",
    "NameTaken",
    "NotFound",
    "OAuthError",
    "Problem",
    "TooLarge",
    "TooManyEventStreams",
    "TooManyRequests",
    "TooManySockets",
    "Unauthorized",
    "Unavailable",
    "UpstreamTimeout",
    "UpstreamUnreachable",
    "UserNotFound",
]


class KeyNotFound(NotFound):
    slug, title = "key-not-found", "API key not found"


class UserNotFound(NotFound):
    slug, title = "user-not-found", "User not found"


class ClientNotFound(NotFound):
    slug, title = "client-not-found", "Client not found"


class NameTaken(Conflict):
    slug, title = "name-taken", "Name taken"


class InvalidScope(InvalidRequest):
    slug, title = "invalid-scope", "Invalid scope"


class TooManyEventStreams(Unavailable):
    slug, title = "too-many-event-streams", "Too many event streams are open"


class TooManySockets(Unavailable):
    slug, title = "too-many-sockets", "Too many WebSockets are open"


class UpstreamUnreachable(Unavailable):
    slug, title = "upstream-unreachable", "A service behind the gateway can't be reached"


class OAuthError(Exception):
    """`error` is one of RFC 6749 5.2: invalid_request, invalid_client, invalid_grant, unsupported_grant_type, …"""

    def __init__(self, error: str, description: str, *, status: int = 400, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.retry_after = retry_after
