"""The caller's delegation, exchanged for a token that the catalog takes (RFC 8693)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict

import httpx

from lakegate_chassis.metrics import CACHE_ENTRIES, CACHE_LOOKUPS
from lakegate_ingest.errors import CatalogUnavailable, DelegationExpired

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
AUDIENCE = "catalog"
DELEGATION = "urn:lakegate:token-type:delegation"
REFRESH_BEFORE_SECONDS = 20.0
MAX_CACHED = 1024
EXCHANGE_TIMEOUT_SECONDS = 5.0
_CACHE = "exchanged_tokens"


class TokenExchange:
    """Tokens for the catalog by delegation, each kept until 20 s before it expires."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self._tokens: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._lock = asyncio.Lock()
        CACHE_ENTRIES.labels(_CACHE).set_function(self._tokens.__len__)

    async def token(self, delegation: str) -> str:
        """Raises DelegationExpired when it is refused, CatalogUnavailable when nobody answers."""
        key = hashlib.sha256(delegation.encode()).digest()
        async with self._lock:
            held = self._tokens.get(key)
            usable = held is not None and held[0] > time.monotonic()
            CACHE_LOOKUPS.labels(_CACHE, "hit" if usable else "miss").inc()
            if held is not None and usable:
                self._tokens.move_to_end(key)
                return held[1]
            token, lifetime = await self._exchange(delegation)
            self._tokens[key] = (time.monotonic() + lifetime - REFRESH_BEFORE_SECONDS, token)
            while len(self._tokens) > MAX_CACHED:
                self._tokens.popitem(last=False)
            return token

    async def renewed(self, delegation: str, scope: str) -> str:
        """A delegation that lives on, for `scope` alone. Raises as `token`, and DelegationExpired after its last."""
        form = {"grant_type": GRANT, "subject_token": delegation, "requested_token_type": DELEGATION, "scope": scope}
        return (await self._ask(form))[0]

    async def _exchange(self, delegation: str) -> tuple[str, float]:
        return await self._ask({"grant_type": GRANT, "subject_token": delegation, "audience": AUDIENCE})

    async def _ask(self, form: dict[str, str]) -> tuple[str, float]:
        try:
            answer = await self._client.post(self._url, data=form, timeout=EXCHANGE_TIMEOUT_SECONDS)
        except httpx.HTTPError as error:
            raise CatalogUnavailable("The token exchange can't be reached. Try again shortly.") from error
        if 400 <= answer.status_code < 500:
            raise DelegationExpired(
                "The caller's delegation is no longer valid (it lives 24 hours). Send the load again."
            )
        if answer.status_code != 200:
            raise CatalogUnavailable(f"The token exchange answered {answer.status_code}. Try again shortly.")
        body = answer.json()
        return str(body["access_token"]), float(body["expires_in"])
