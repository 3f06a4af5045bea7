"""What both clients have in common: how they reach a server, and how a foreign error is named."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import httpx

from lakegate.client.errors import BadSetting, Unreachable
from lakegate.client.uploads import Upload

# The server answers a load within 30 s (Prefer: wait); reads get twice that, so that its own deadline always wins.
TIMEOUT = httpx.Timeout(60.0, connect=5.0)


# RFC 6750, 2.1 (b64token), and a little more: whatever is visible ASCII.
_KEY = re.compile(r"[\x21-\x7e]+")


def options(
    url: str, key: str | None, timeout: httpx.Timeout | float | None, headers: dict[str, str] | None
) -> dict[str, Any]:
    """Keyword arguments for httpx.Client and httpx.AsyncClient. Raises BadSetting."""
    sent = {"User-Agent": f"lakegate-python/{version('lakegate')}", **(headers or {})}
    if key is not None:
        sent["Authorization"] = f"Bearer {checked_key(key)}"
    return {"base_url": checked_url(url), "headers": sent, "timeout": TIMEOUT if timeout is None else timeout}


def checked_url(url: str) -> str:
    """The gateway's address without a slash at its end. Raises BadSetting."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadSetting(f"The gateway's address is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise BadSetting(
            f"The gateway's address is no URL: '{url}'. It looks like http://127.0.0.1:8080; give it in LAKEGATE_URL "
            "or the profile."
        )
    return url.rstrip("/")


def checked_key(key: str) -> str:
    """The key without the white space that a shell or a file put around it.

    Raises BadSetting for what can't be sent, and never shows it: an error message ends up in logs.
    """
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise BadSetting(
            "The API key is empty or has characters that no key has (a line break, a space, a letter outside ASCII); "
            "it is not shown here. Copy it again, into LAKEGATE_KEY or the profile."
        )
    return key


def drop_auth(request: httpx.Request) -> httpx.Request:
    """Send no API key: a token request carries credentials of its own."""
    request.headers.pop("authorization", None)
    return request


def unreachable(request: httpx.Request, error: httpx.TransportError) -> Unreachable:
    """httpx's error in our words."""
    url = f"{request.url.scheme}://{request.url.netloc.decode()}"
    if isinstance(error, httpx.TimeoutException):
        kind = type(error).__name__.removesuffix("Timeout").lower()
        return Unreachable(url, f"no answer in time ({kind})")
    if isinstance(error, httpx.LocalProtocolError):
        # Its text quotes the header at fault, which may be the key.
        return Unreachable(
            url, "the request can't be sent as HTTP; one of its headers has characters that no header has"
        )
    return Unreachable(url, str(error) or type(error).__name__)


def upload_arguments(upload: Upload) -> dict[str, Any]:
    """Keyword arguments for build_request, without the content."""
    return {"method": "POST", "url": upload.path, "params": upload.params(), "headers": upload.headers()}
