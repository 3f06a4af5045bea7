"""API keys: made once, shown once, found by hash."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import asyncpg

from lakegate_contracts.identity import Principal, Scope
from lakegate_gateway.errors import InvalidRequest, KeyNotFound
from lakegate_gateway.identity.revocations import Revocations
from lakegate_gateway.identity.verified import VerificationCache
from lakegate_gateway.keys import queries
from lakegate_gateway.settings import KEY_PREFIX

SHOWN_LENGTH = 12  # prefix and 8 characters: enough to tell keys apart, 48 of 256 bits
WRITE_USED_EVERY_SECONDS = 10.0
MAX_USED = 10_000
_BOOTSTRAP_IDS = UUID("6f5e6a52-7d4b-4f0e-9a51-0c6f7b5b3a10")


@dataclass(frozen=True)
class ApiKey:
    """A key as it is stored: everything but the key."""

    id: UUID
    tenant: str
    subject: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None

    @property
    def principal(self) -> Principal:
        return Principal(tenant=self.tenant, subject=self.subject, scopes=self.scopes)


def hash_key(plaintext: str) -> bytes:
    """A fast hash will do: a key has 256 random bits, there is nothing to guess."""
    return hashlib.sha256(plaintext.encode()).digest()


class Keys:
    def __init__(self, pool: asyncpg.Pool, cache: VerificationCache, revocations: Revocations) -> None:
        self._pool = pool
        self._cache = cache
        self._revocations = revocations
        self._used: dict[UUID, float] = {}

    async def create(
        self, by: Principal, *, name: str, subject: str, scopes: tuple[str, ...], expires_at: datetime | None
    ) -> tuple[ApiKey, str]:
        """The key and its plaintext, which is stored nowhere."""
        plaintext = KEY_PREFIX + secrets.token_urlsafe(32)
        values = {
            "id": uuid4(),
            "subject": subject,
            "name": name,
            "prefix": plaintext[:SHOWN_LENGTH],
            "scopes": scopes,
            "created_by": by.subject,
            "expires_at": expires_at,
        }
        return _key(await queries.insert(self._pool, by.tenant, hash_key(plaintext), values)), plaintext

    async def bootstrap(
        self, plaintext: str, tenant: str, *, name: str = "bootstrap", scopes: tuple[Scope, ...] = (Scope.ADMIN,)
    ) -> None:
        """Make `plaintext` a key of `tenant`, also when it is one already. Settings have checked it."""
        digest = hash_key(plaintext)
        await queries.upsert_bootstrap(
            self._pool,
            tenant,
            uuid5(_BOOTSTRAP_IDS, digest.hex()),
            digest,
            plaintext[:SHOWN_LENGTH],
            name,
            [scope.value for scope in scopes],
        )

    async def find(self, plaintext: str) -> ApiKey | None:
        """The key, expired or not; None when it is unknown or revoked."""
        row = await queries.find(self._pool, hash_key(plaintext))
        if row is None or row["revoked_at"] is not None:
            return None
        self.used(row["id"])
        return _key(row)

    async def is_in_force(self, tenant: str, id: UUID) -> bool:
        return await queries.is_in_force(self._pool, tenant, id)

    async def page(self, tenant: str, cursor: str | None, limit: int) -> tuple[list[ApiKey], str | None]:
        """Newest first, and the cursor of the next page."""
        rows = await queries.list_page(self._pool, tenant, _read_cursor(cursor), limit + 1)
        keys = [_key(row) for row in rows[:limit]]
        return keys, _cursor(keys[-1]) if len(rows) > limit else None

    async def revoke(self, tenant: str, id: UUID) -> None:
        """Raises KeyNotFound."""
        if not await queries.revoke(self._pool, self._revocations, tenant, id):
            raise KeyNotFound(f"No key {id} is in force. See GET /v1/keys.")
        self._cache.forget(id)

    def used(self, id: UUID) -> None:
        """Remember that the key was used now; written later, all at once."""
        if id in self._used or len(self._used) < MAX_USED:
            self._used[id] = time.time()

    async def write_used(self) -> None:
        """Run for as long as the process does."""
        while True:
            await asyncio.sleep(WRITE_USED_EVERY_SECONDS)
            await self.flush_used()

    async def flush_used(self) -> None:
        if not self._used:
            return
        used, self._used = self._used, {}
        written = False
        try:
            await queries.touch(self._pool, {id: datetime.fromtimestamp(at, UTC) for id, at in used.items()})
            written = True
        finally:
            if not written:  # next time, and what was used since is the later
                self._used = dict(list((used | self._used).items())[-MAX_USED:])


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        row["id"],
        row["tenant"],
        row["subject"],
        row["name"],
        row["prefix"],
        tuple(row["scopes"]),
        row["created_at"],
        row["created_by"],
        row["expires_at"],
        row["last_used_at"],
    )


def _cursor(key: ApiKey) -> str:
    return base64.urlsafe_b64encode(f"{key.created_at.isoformat()} {key.id}".encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        moment, id = base64.urlsafe_b64decode(cursor).decode().rsplit(" ", 1)
        return datetime.fromisoformat(moment).astimezone(UTC), UUID(id)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise InvalidRequest("The cursor is not one that was handed out here. Start without it.") from error
