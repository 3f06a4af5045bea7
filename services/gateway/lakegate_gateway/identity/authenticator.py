"""From an Authorization header to a principal: Bearer (access token or API key) and Basic (API key or password)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from lakegate_chassis.tokens import InvalidToken
from lakegate_contracts.identity import Principal
from lakegate_gateway.accounts.service import Accounts
from lakegate_gateway.errors import Unauthorized
from lakegate_gateway.identity.tokens import Tokens
from lakegate_gateway.identity.verified import VerificationCache, Verified
from lakegate_gateway.keys.service import Keys
from lakegate_gateway.settings import KEY_PREFIX

MAX_HEADER_BYTES = 8192


class Proof(NamedTuple):
    """Who it is, for how many seconds, and what would have to be revoked."""

    principal: Principal
    seconds: float
    key_id: UUID | None = None
    credential_id: UUID | None = None

    @property
    def ends(self) -> float:
        """By the monotonic clock, of a proof that is fresh."""
        return time.monotonic() + self.seconds


class Authenticator:
    """Verifies credentials, each at most once in ten seconds."""

    def __init__(self, tokens: Tokens, keys: Keys, accounts: Accounts, cache: VerificationCache) -> None:
        self._tokens = tokens
        self._keys = keys
        self._accounts = accounts
        self._cache = cache
        self._pending: dict[tuple[bytes, int], asyncio.Task[Proof]] = {}

    def known(self, header: bytes) -> Verified | None:
        """The answer of a moment ago; on the hot path, so without a coroutine."""
        entry = self._cache.get(hashlib.sha256(header).digest())
        if entry is not None and entry.key_id is not None:
            self._keys.used(entry.key_id)
        return entry

    async def authenticate(self, header: bytes | None, address: str) -> Principal:
        """Who sent this Authorization header. Raises Unauthorized, TooManyRequests, Unavailable."""
        return (await self.prove(header, address)).principal

    async def prove(self, header: bytes | None, address: str) -> Proof | Verified:
        """The same, with the credential that it was. Raises as `authenticate` does."""
        if not header:
            raise Unauthorized("No credential was sent. Send `Authorization: Bearer <API key or access token>`.")
        entry = self.known(header)
        if entry is not None:
            return entry
        if len(header) > MAX_HEADER_BYTES:
            raise Unauthorized("The credential is longer than any that is handed out here.")
        # all that come with the same credential while it is looked up wait for the one answer
        digest = hashlib.sha256(header).digest()
        look_up = (digest, self._cache.generation)
        pending = self._pending.get(look_up)
        if pending is None:
            pending = self._pending[look_up] = asyncio.create_task(self._verify(header, digest, address))
            pending.add_done_callback(lambda done: self._settled(look_up, done))
        return await asyncio.shield(pending)

    async def authenticate_files(self, token: bytes | None) -> Principal:
        """Who was handed the session token of a signed S3 request; the catalog checks the signature itself.

        Raises Unauthorized, Unavailable.
        """
        if not token or len(token) > MAX_HEADER_BYTES:
            raise Unauthorized("The request is signed, but not with keys that came with a table from here.")
        digest = hashlib.sha256(b"files " + token).digest()
        entry = self._cache.get(digest)
        if entry is not None:
            return entry.principal
        generation = self._cache.generation
        try:
            handed = self._tokens.verify_file_token(token.decode("latin-1"))
        except InvalidToken as error:
            raise Unauthorized(f"The session token is not valid: {error}. Load the table again.") from error
        principal = handed.principal
        if handed.key_id is not None:
            in_force = await self._keys.is_in_force(principal.tenant, handed.key_id)
        else:
            in_force = await self._accounts.vouches(principal, handed.credential_id)
        if not in_force:
            raise Unauthorized("The credential that these keys were handed out for has been revoked, or has expired.")
        if generation == self._cache.generation:
            seconds = handed.expires_at - time.time()
            self._cache.put(digest, principal, valid_seconds=seconds, key_id=handed.key_id)
        return principal

    def _settled(self, look_up: tuple[bytes, int], done: asyncio.Task[Proof]) -> None:
        del self._pending[look_up]
        if not done.cancelled():
            done.exception()  # whoever waited has it; perhaps nobody waits any more

    async def _verify(self, header: bytes, digest: bytes, address: str) -> Proof:
        generation = self._cache.generation
        scheme, _, value = header.decode("latin-1").partition(" ")
        match scheme.lower():
            case "bearer":
                proof = await self._bearer(value.strip())
            case "basic":
                proof = await self._basic(value.strip(), address)
            case _:
                raise Unauthorized(f"The scheme {scheme[:40]!r} is not known here. Use Bearer or Basic.")
        if generation == self._cache.generation:  # else it may have been revoked since it was read
            self._cache.put(
                digest,
                proof.principal,
                valid_seconds=proof.seconds,
                key_id=proof.key_id,
                credential_id=proof.credential_id,
            )
        return proof

    async def _bearer(self, token: str) -> Proof:
        if token.startswith(KEY_PREFIX):
            return await self._key(token)
        if token.count(".") != 2:  # what is no JWT was hardly meant as one
            raise Unauthorized(
                f"The credential is neither an API key, which begins with {KEY_PREFIX}, nor an access token. "
                "Check that the key was copied whole."
            )
        try:
            access = self._tokens.verify_access_token(token)
        except InvalidToken as error:
            raise Unauthorized(f"The access token is not valid: {error}. Get a new one from /oauth/token.") from error
        if not await self._accounts.vouches(access.principal, access.credential_id):
            raise Unauthorized(
                "The access token is void: its account is gone, or has another password or secret by now. "
                "Get a new one from /oauth/token."
            )
        return Proof(access.principal, access.expires_at - time.time(), credential_id=access.credential_id)

    async def _basic(self, encoded: str, address: str) -> Proof:
        try:
            name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise Unauthorized("The Basic credential is not base64 of `name:password`.")
        if password.startswith(KEY_PREFIX):
            return await self._key(password)
        login = await self._accounts.log_in(name, password, address)
        if login is None:
            raise Unauthorized("The name or the password is wrong.")
        return Proof(login.principal, float("inf"), credential_id=login.credential_id)

    async def _key(self, plaintext: str) -> Proof:
        key = await self._keys.find(plaintext)
        if key is None:
            raise Unauthorized("The API key is not known, or has been revoked.")
        if key.expires_at is None:
            return Proof(key.principal, float("inf"), key.id)
        seconds = (key.expires_at - datetime.now(UTC)).total_seconds()
        if seconds <= 0:
            raise Unauthorized(f"The API key expired at {key.expires_at.isoformat()}. Have a new one made.")
        return Proof(key.principal, seconds, key.id)
