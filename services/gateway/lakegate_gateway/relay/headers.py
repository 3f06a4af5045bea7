"""The head of a request as it goes upstream: what is dropped, what is added, how the body is framed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from starlette.types import Scope

Pair = tuple[bytes, bytes]

# RFC 9110 7.6.1, and whatever the gateway alone may say to a service. `expect` is answered here.
_DROPPED = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"lakegate-delegation",
        b"lakegate-file-token",
        b"lakegate-signature",
        b"lakegate-signed-host",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"traceparent",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
# what says where the body ends is never for one hop only, whatever a Connection header names
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_NO_NAMES: frozenset[bytes] = frozenset()


class Outgoing(NamedTuple):
    """`lines` are the header lines to pass on. `length` is of the body; None when it comes in chunks."""

    lines: bytes
    length: int | None
    expects: bool

    @property
    def has_body(self) -> bool:
        return self.length != 0


def outgoing(headers: Sequence[Pair]) -> Outgoing:
    """Sort the client's headers. Its server has checked them: no line breaks, one Content-Length, no smuggling."""
    lines: list[bytes] = []
    length: int | None = 0
    expects = False
    named = _NO_NAMES
    for name, value in headers:
        if name not in _DROPPED:
            lines += (name, b": ", value, b"\r\n")
        elif name == b"content-length":
            if length is not None:
                length = int(value)
        elif name == b"transfer-encoding":
            length = None
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
        elif name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            named = frozenset(token.strip() for token in value.lower().split(b",")) - _FRAMING
    if named:
        # headers that the client's Connection names are for this hop only
        kept = [headers_of for headers_of in headers if headers_of[0] not in named]
        if len(kept) != len(headers):
            return outgoing([pair for pair in kept if pair[0] != b"connection"])
    return Outgoing(b"".join(lines), length, expects)


def request_head(scope: Scope, authority: bytes, out: Outgoing, added: Sequence[Pair]) -> bytes:
    """The request line and all header lines, up to and with the empty one. The path goes on as it was sent."""
    parts = [scope["method"].encode(), b" ", scope["raw_path"]]
    if scope["query_string"]:
        parts += (b"?", scope["query_string"])
    parts += (b" HTTP/1.1\r\nhost: ", authority, b"\r\n", out.lines)
    for name, value in added:
        parts += (name, b": ", value, b"\r\n")
    if out.length is None:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif out.length or scope["method"] in ("POST", "PUT", "PATCH"):
        parts.append(b"content-length: %d\r\n" % out.length)
    parts.append(b"\r\n")
    return b"".join(parts)
