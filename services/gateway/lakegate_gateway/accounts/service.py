"""Users and clients: who may log in to the built-in issuer."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import asyncpg

from lakegate_contracts.identity import Principal
from lakegate_gateway.accounts import queries
from lakegate_gateway.identity.attempts import Attempts
from lakegate_gateway.identity.passwords import hash_password, verify_password

SECRET_PREFIX = "lgs_"


class Accounts:
    def __init__(self, pool: asyncpg.Pool, attempts: Attempts) -> None:
        self._pool = pool
        self._attempts = attempts

    async def create_user(self, tenant: str, username: str, password: str, scopes: tuple[str, ...]) -> None:
        """Raises NameTaken."""
        await queries.insert_user(self._pool, tenant, username, await hash_password(password), list(scopes))

    async def create_client(self, tenant: str, client_id: str, scopes: tuple[str, ...]) -> str:
        """The client's secret, which is stored only as a hash. Raises NameTaken."""
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        digest = hashlib.sha256(secret.encode()).digest()
        await queries.insert_client(self._pool, tenant, client_id, digest, list(scopes))
        return secret

    async def log_in(self, username: str, password: str, address: str) -> Principal | None:
        """The user, or None when name or password is wrong. Raises TooManyRequests."""
        self._attempts.begin(username, address)
        row = await queries.find_user(self._pool, username) if _storable(username) else None
        if not await verify_password(password, row["password_hash"] if row else None) or row is None:
            return None
        self._attempts.succeeded(username, address)
        return Principal(tenant=row["tenant"], subject=username, scopes=tuple(row["scopes"]))

    async def log_in_client(self, client_id: str, secret: str, address: str) -> Principal | None:
        """The client, or None when name or secret is wrong. Raises TooManyRequests."""
        self._attempts.begin(f"client:{client_id}", address)
        row = await queries.find_client(self._pool, client_id) if _storable(client_id) else None
        digest = hashlib.sha256(secret.encode()).digest()
        if row is None or not hmac.compare_digest(digest, row["secret_hash"]):
            return None
        self._attempts.succeeded(f"client:{client_id}", address)
        return Principal(tenant=row["tenant"], subject=f"client:{client_id}", scopes=tuple(row["scopes"]))

    async def scopes_of(self, username: str) -> tuple[str, ...] | None:
        """What the user may do now; None when there is no such user."""
        row = await queries.find_user(self._pool, username)
        return tuple(row["scopes"]) if row else None


def _storable(name: str) -> bool:
    """PostgreSQL's text takes no zero byte, so nobody can be called so."""
    return "\x00" not in name
