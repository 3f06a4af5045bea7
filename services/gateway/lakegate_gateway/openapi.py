"""One OpenAPI document for everything behind the gateway, made of what each service says of itself."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson

from lakegate_chassis.logs import log
from lakegate_gateway.routes import match

WHOLE_SECONDS = 60.0
PARTIAL_SECONDS = 3.0
FETCH_TIMEOUT_SECONDS = 3.0
Document = dict[str, Any]
_REF = '"#/components/schemas/'

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key (`lgk_…`) or an access token."},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "User name and password; or any name, and an API key as the password.",
    },
}
DESCRIPTION = (
    "The front door of a lakehouse. Errors are RFC 9457 problems: `type` is a page that says what to do. "
    "Iceberg and OAuth paths keep their own error shapes."
)


class MergedDocument:
    """Fetched from the services and kept for a minute; for three seconds while one of them can't be reached."""

    def __init__(self, clients: Mapping[str, httpx.AsyncClient], url: str) -> None:
        self._clients = clients
        self._url = url
        self._kept: tuple[float, bytes] = (0.0, b"")
        self._lock = asyncio.Lock()

    async def get(self, own: Callable[[], Document]) -> bytes:
        """The document as JSON; services that did not answer are named in `x-lakegate-missing`."""
        async with self._lock:
            until, kept = self._kept
            if until > time.monotonic():
                return kept
            documents = await asyncio.gather(*(self._fetch(name) for name in self._clients))
            found = {name: document for name, document in zip(self._clients, documents, strict=True) if document}
            missing = sorted(self._clients.keys() - found.keys())
            merged = orjson.dumps(merge(own(), found, missing))
            self._kept = (time.monotonic() + (PARTIAL_SECONDS if missing else WHOLE_SECONDS), merged)
            return merged

    async def _fetch(self, name: str) -> Document | None:
        try:
            answer = await self._clients[name].get("/openapi.json", timeout=FETCH_TIMEOUT_SECONDS)
            answer.raise_for_status()
            document: Document = orjson.loads(answer.content)
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            log.warning("openapi_missing", upstream=name, reason=type(error).__name__)
            return None
        return document


def merge(own: Document, services: Mapping[str, Document], missing: list[str]) -> Document:
    """Our document with the paths of `services` that the routing table makes public."""
    merged = copy.deepcopy(own)
    components = merged.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schemas = components.setdefault("schemas", {})
    for name, document in services.items():
        document = _without_clashes(document, schemas, name)
        schemas |= document.get("components", {}).get("schemas", {})
        for path, operations in document.get("paths", {}).items():
            route = match(path)
            if route is not None and route.upstream == name:
                merged["paths"][path] = operations
    merged["info"] |= {"title": "Lakegate", "description": DESCRIPTION}
    merged["security"] = [{"bearer": []}, {"basic": []}]
    merged["paths"] = dict(sorted(merged["paths"].items()))
    if missing:
        merged["x-lakegate-missing"] = missing
    return merged


def _without_clashes(document: Document, taken: Mapping[str, Any], service: str) -> Document:
    """Rename schemas whose name another service uses for something else: `Page` of lineage to `LineagePage`."""
    schemas = document.get("components", {}).get("schemas", {})
    clashing = [name for name, schema in schemas.items() if name in taken and taken[name] != schema]
    if not clashing:
        return document
    text = orjson.dumps(document).decode()
    for name in clashing:
        text = text.replace(f'{_REF}{name}"', f'{_REF}{service.capitalize()}{name}"')
    renamed: Document = orjson.loads(text)
    schemas = renamed["components"]["schemas"]
    for name in clashing:
        schemas[service.capitalize() + name] = schemas.pop(name)
    return renamed
