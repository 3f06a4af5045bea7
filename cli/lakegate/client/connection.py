"""What both clients have in common: how they reach a server, and how a foreign error is named."""

from __future__ import annotations

from typing import Any

import httpx

from lakegate.client.errors import Unreachable
from lakegate.client.uploads import Upload

# The server answers a load within 30 s (Prefer: wait); reads get twice that, so that its own deadline always wins.
TIMEOUT = httpx.Timeout(60.0, connect=5.0)


def options(
    url: str, key: str | None, timeout: httpx.Timeout | float | None, headers: dict[str, str] | None
) -> dict[str, Any]:
    """Keyword arguments for httpx.Client and httpx.AsyncClient."""
    sent = {"User-Agent": "lakegate-python/0.1.0", **(headers or {})}
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    return {"base_url": url.rstrip("/"), "headers": sent, "timeout": TIMEOUT if timeout is None else timeout}


def drop_auth(request: httpx.Request) -> httpx.Request:
    """For a token request, which carries its own credentials."""
    request.headers.pop("authorization", None)
    return request


def unreachable(request: httpx.Request, error: httpx.TransportError) -> Unreachable:
    """httpx's error in our words."""
    url = f"{request.url.scheme}://{request.url.netloc.decode()}"
    if isinstance(error, httpx.TimeoutException):
        kind = type(error).__name__.removesuffix("Timeout").lower()
        return Unreachable(url, f"no answer in time ({kind})")
    return Unreachable(url, str(error) or type(error).__name__)


def upload_arguments(upload: Upload) -> dict[str, Any]:
    """Keyword arguments for build_request, without the content."""
    return {"method": "POST", "url": upload.path, "params": upload.params(), "headers": upload.headers()}
