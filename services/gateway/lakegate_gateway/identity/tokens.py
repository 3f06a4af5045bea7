"""The tokens that the gateway signs: to clients (1 h), to services (60 s), for files (1 h), and delegations (24 h)."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt

from lakegate_chassis.metrics import CACHE_ENTRIES, CACHE_LOOKUPS
from lakegate_chassis.tokens import ISSUER, LEEWAY_SECONDS, LIFETIME_SECONDS, InvalidToken, TokenSigner
from lakegate_contracts.identity import (
    DELEGATION_HEADER,
    DELEGATION_TYPE,
    FILE_TOKEN_HEADER,
    FILE_TOKEN_TYPE,
    Principal,
)
from lakegate_gateway.identity.keyring import KeyRing
from lakegate_gateway.identity.scopes import for_loading, narrow

ACCESS_TYPE = "at+jwt"  # RFC 9068
ACCESS_AUDIENCE = "lakegate"
DELEGATION_SECONDS = 24 * 3600
# A delegation for one scope may be renewed for so long after the caller's last request.
RENEWABLE_SECONDS = 30 * 24 * 3600
DELEGATES = {"ingest": frozenset({"catalog"})}  # who may exchange a delegation, and to speak to whom
FILES_AUDIENCE = "lakegate-files"
FILES_SECONDS = 3600
REUSE_SECONDS = 25.0
MAX_KEPT = 10_000
_CACHE = "internal_tokens"
_HITS, _MISSES = CACHE_LOOKUPS.labels(_CACHE, "hit"), CACHE_LOOKUPS.labels(_CACHE, "miss")

Pair = tuple[bytes, bytes]
_Kept = tuple[float, TokenSigner, list[Pair]]  # until when, whose signature, the headers


@dataclass(frozen=True)
class AccessToken:
    """What a verified one says; `expires_at` in Unix seconds. The release before named no `credential_id`."""

    principal: Principal
    expires_at: float
    credential_id: UUID | None


@dataclass(frozen=True)
class FileToken:
    """What the session token of S3 keys says; `expires_at` in Unix seconds."""

    principal: Principal
    expires_at: float
    key_id: UUID | None
    credential_id: UUID | None


class Tokens:
    """One key signs all; type, issuer and audience keep them apart."""

    def __init__(self, ring: KeyRing, issuer_url: str, access_token_seconds: int) -> None:
        self._ring = ring
        self._issuer = issuer_url
        self.access_token_seconds = access_token_seconds
        self._kept: OrderedDict[tuple[str, str, tuple[str, ...], str], _Kept] = OrderedDict()
        CACHE_ENTRIES.labels(_CACHE).set_function(self._kept.__len__)

    @property
    def jwks(self) -> dict[str, Any]:
        return self._ring.jwks

    def access_token(self, principal: Principal, credential_id: UUID) -> str:
        """What /oauth/token hands out (RFC 9068), for as long as the password or secret is `credential_id`."""
        return self._ring.signer.mint(
            principal,
            ACCESS_AUDIENCE,
            lifetime_seconds=self.access_token_seconds,
            token_type=ACCESS_TYPE,
            issuer=self._issuer,
            credential=str(credential_id),
        )

    def verify_access_token(self, token: str) -> AccessToken:
        """Raises InvalidToken."""
        principal, expires_at, claims = self._verify(token, ACCESS_TYPE, ACCESS_AUDIENCE, self._issuer)
        credential = claims.get("credential")
        return AccessToken(principal, expires_at, UUID(credential) if credential else None)

    def for_service(self, principal: Principal, service: str) -> list[Pair]:
        """The headers that tell `service` who calls; the same for up to REUSE_SECONDS."""
        key = (principal.tenant, principal.subject, principal.scopes, service)
        now = time.monotonic()
        kept = self._kept.get(key)
        signer = self._ring.signer
        if kept is not None and kept[0] > now and kept[1] is signer:
            _HITS.inc()
            return kept[2]
        _MISSES.inc()
        headers = [(b"authorization", b"Bearer " + signer.mint(principal, service).encode())]
        if service in DELEGATES:
            headers.append((DELEGATION_HEADER.encode(), self.delegation(principal, service).encode()))
        self._keep(key, now, signer, headers)
        return headers

    def _keep(
        self, key: tuple[str, str, tuple[str, ...], str], now: float, signer: TokenSigner, headers: list[Pair]
    ) -> None:
        self._kept[key] = (now + REUSE_SECONDS, signer, headers)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def for_files(self, principal: Principal, *, key_id: UUID | None, credential_id: UUID | None) -> Pair:
        """The header with the token that S3 keys handed out with this answer go with; kept as `for_service` does.

        It has no scopes: what the keys may do is in the keys. It dies with the API key, or the password or secret.
        """
        key = (principal.tenant, principal.subject, (str(key_id), str(credential_id)), FILES_AUDIENCE)
        now = time.monotonic()
        kept = self._kept.get(key)
        signer = self._ring.signer
        if kept is not None and kept[0] > now and kept[1] is signer:
            return kept[2][0]
        bearer = principal.model_copy(update={"scopes": ()})
        given = {"key": key_id, "credential": credential_id}
        claims = {name: str(id) for name, id in given.items() if id is not None}
        token = signer.mint(
            bearer, FILES_AUDIENCE, lifetime_seconds=FILES_SECONDS, token_type=FILE_TOKEN_TYPE, **claims
        )
        header = (FILE_TOKEN_HEADER.encode(), token.encode())
        self._keep(key, now, signer, [header])
        return header

    def verify_file_token(self, token: str) -> FileToken:
        """Raises InvalidToken."""
        principal, expires_at, claims = self._verify(token, FILE_TOKEN_TYPE, FILES_AUDIENCE, ISSUER)
        key, credential = claims.get("key"), claims.get("credential")
        return FileToken(principal, expires_at, UUID(key) if key else None, UUID(credential) if credential else None)

    def delegation(self, principal: Principal, service: str) -> str:
        """Lets `service` speak for the caller after the request has ended, by exchanging it here."""
        return self._ring.signer.mint(
            principal, ISSUER, lifetime_seconds=DELEGATION_SECONDS, token_type=DELEGATION_TYPE, azp=service
        )

    def exchange(self, delegation: str, audience: str) -> tuple[str, int]:
        """A fresh internal token for `audience`, and its lifetime. RFC 8693. Raises InvalidToken."""
        principal, _, claims = self._verify(delegation, DELEGATION_TYPE, ISSUER, ISSUER)
        delegate = str(claims.get("azp", ""))
        if audience not in DELEGATES.get(delegate, ()):
            raise InvalidToken(f"{delegate!r} may not speak to {audience!r} for others")
        return self._ring.signer.mint(for_loading(principal), audience), LIFETIME_SECONDS

    def renewable(self, delegation: str, scope: str) -> tuple[Principal, dict[str, Any]]:
        """Who gave a delegation that asks to live on for `scope` alone, and its claims. Raises InvalidToken."""
        principal, _, claims = self._verify(delegation, DELEGATION_TYPE, ISSUER, ISSUER)
        if time.time() - _given_at(claims) > RENEWABLE_SECONDS:
            raise InvalidToken(f"it was given {RENEWABLE_SECONDS // 86_400} days ago, and is not renewed any more")
        narrowed = narrow(principal.scopes, [scope])
        if narrowed is None:
            raise InvalidToken(f"it does not cover {scope[:200]}")
        return principal.model_copy(update={"scopes": narrowed}), claims

    def renewed(self, principal: Principal, claims: dict[str, Any]) -> tuple[str, int]:
        """The successor of a delegation, from what `renewable` has said of it, and its lifetime."""
        successor = self._ring.signer.mint(
            principal,
            ISSUER,
            lifetime_seconds=DELEGATION_SECONDS,
            token_type=DELEGATION_TYPE,
            azp=claims.get("azp"),
            given_at=_given_at(claims),
        )
        return successor, DELEGATION_SECONDS

    def _verify(self, token: str, kind: str, audience: str, issuer: str) -> tuple[Principal, float, dict[str, Any]]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != kind:
                raise InvalidToken(f"the token is no {kind}")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._ring.public(str(header.get("kid"))),
                ["EdDSA"],
                audience=audience,
                issuer=issuer,
                # replicas sign for each other; an expiry is not stretched by it
                leeway=0 if kind == ACCESS_TYPE else LEEWAY_SECONDS,
                options={"require": ["exp", "aud", "sub", "tenant", "scope"], "verify_iat": False},
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from error
        principal = Principal(tenant=claims["tenant"], subject=claims["sub"], scopes=tuple(claims["scope"].split()))
        return principal, float(claims["exp"]), claims


def _given_at(claims: dict[str, Any]) -> float:
    """When the caller was here: a renewed delegation keeps the time of the first."""
    return float(claims.get("given_at", claims.get("iat", 0)))
