"""Users and clients: who may log in to the built-in issuer."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from lakegate_contracts.identity import Principal
from lakegate_gateway.accounts import queries
from lakegate_gateway.errors import ClientNotFound, UserNotFound
from lakegate_gateway.identity.attempts import Attempts
from lakegate_gateway.identity.passwords import hash_password, verify_password
from lakegate_gateway.identity.revocations import Revocations
from lakegate_gateway.identity.verified import VerificationCache

SECRET_PREFIX = "lgs_"
CLIENT = "client:"  # what the subject of a client begins with


@dataclass(frozen=True)
class Account:
    """A user or client as it is listed."""

    name: str
    scopes: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True)
class LogIn:
    """Who logged in, and by which password or secret: tokens are good only while that is current."""

    principal: Principal
    credential_id: UUID


class Accounts:
    def __init__(
        self, pool: asyncpg.Pool, attempts: Attempts, cache: VerificationCache, revocations: Revocations
    ) -> None:
        self._pool = pool
        self._cache = cache
        self._revocations = revocations
        self._attempts = attempts

    async def create_user(self, tenant: str, username: str, password: str, scopes: tuple[str, ...]) -> None:
        """Raises NameTaken."""
        await queries.insert_user(self._pool, tenant, username, await hash_password(password), list(scopes))

    async def create_client(self, tenant: str, client_id: str, scopes: tuple[str, ...]) -> str:
        """The client's secret, which is stored only as a hash. Raises NameTaken."""
        secret, digest = _new_secret()
        await queries.insert_client(self._pool, tenant, client_id, digest, list(scopes))
        return secret

    async def users(self, tenant: str, after: str, limit: int) -> list[Account]:
        """By name, those after `after`."""
        return [_account(row) for row in await queries.list_users(self._pool, tenant, after, limit)]

    async def clients(self, tenant: str, after: str, limit: int) -> list[Account]:
        """By client_id, those after `after`."""
        return [_account(row) for row in await queries.list_clients(self._pool, tenant, after, limit)]

    async def delete_user(self, tenant: str, username: str) -> None:
        """Password, API keys and all tokens are void at once. Raises UserNotFound."""
        if not (_storable(username) and await queries.delete_user(self._pool, self._revocations, tenant, username)):
            raise _no_user(username)
        self._cache.forget_subject(tenant, username)

    async def set_password(self, tenant: str, username: str, password: str) -> None:
        """The old one and all tokens are void at once. Raises UserNotFound."""
        hashed = await hash_password(password)
        if not (
            _storable(username) and await queries.set_password(self._pool, self._revocations, tenant, username, hashed)
        ):
            raise _no_user(username)
        self._cache.forget_subject(tenant, username)

    async def delete_client(self, tenant: str, client_id: str) -> None:
        """Secret, API keys and access tokens are void at once. Raises ClientNotFound."""
        if not (_storable(client_id) and await queries.delete_client(self._pool, self._revocations, tenant, client_id)):
            raise _no_client(client_id)
        self._cache.forget_subject(tenant, f"{CLIENT}{client_id}")

    async def rotate_secret(self, tenant: str, client_id: str) -> tuple[str, tuple[str, ...]]:
        """A new secret, and the client's scopes; the old one and its tokens are void at once. Raises ClientNotFound."""
        secret, digest = _new_secret()
        scopes = None
        if _storable(client_id):
            scopes = await queries.set_secret(self._pool, self._revocations, tenant, client_id, digest)
        if scopes is None:
            raise _no_client(client_id)
        self._cache.forget_subject(tenant, f"{CLIENT}{client_id}")
        return secret, tuple(scopes)

    async def log_in(self, username: str, password: str, address: str) -> LogIn | None:
        """The user, or None when name or password is wrong. Raises TooManyRequests."""
        self._attempts.begin(username, address)
        row = await queries.find_user(self._pool, username) if _storable(username) else None
        if not await verify_password(password, row["password_hash"] if row else None) or row is None:
            return None
        self._attempts.succeeded(username, address)
        principal = Principal(tenant=row["tenant"], subject=username, scopes=tuple(row["scopes"]))
        return LogIn(principal, row["credential_id"])

    async def log_in_client(self, client_id: str, secret: str, address: str) -> LogIn | None:
        """The client, or None when name or secret is wrong. Raises TooManyRequests."""
        self._attempts.begin(f"{CLIENT}{client_id}", address)
        row = await queries.find_client(self._pool, client_id) if _storable(client_id) else None
        digest = hashlib.sha256(secret.encode()).digest()
        if row is None or not hmac.compare_digest(digest, row["secret_hash"]):
            return None
        self._attempts.succeeded(f"{CLIENT}{client_id}", address)
        principal = Principal(tenant=row["tenant"], subject=f"{CLIENT}{client_id}", scopes=tuple(row["scopes"]))
        return LogIn(principal, row["credential_id"])

    async def user(self, username: str) -> LogIn | None:
        """The user as if logged in now, with what they may do now; None when there is no such user."""
        row = await queries.find_user(self._pool, username)
        if row is None:
            return None
        principal = Principal(tenant=row["tenant"], subject=username, scopes=tuple(row["scopes"]))
        return LogIn(principal, row["credential_id"])

    async def vouches(self, principal: Principal, credential_id: UUID | None) -> bool:
        """Whether the account that an access token was given to is there, with the same password or secret.

        A token of the release before names no credential: the account will do.
        """
        client_id = principal.subject.removeprefix(CLIENT)
        find = queries.find_user if client_id == principal.subject else queries.find_client
        row = await find(self._pool, client_id)
        if row is None or row["tenant"] != principal.tenant:
            return False
        return credential_id is None or row["credential_id"] == credential_id


def _account(row: asyncpg.Record) -> Account:
    return Account(row["name"], tuple(row["scopes"]), row["created_at"])


def _new_secret() -> tuple[str, bytes]:
    """The secret and what is kept of it."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    return secret, hashlib.sha256(secret.encode()).digest()


def _no_user(username: str) -> UserNotFound:
    return UserNotFound(f"There is no user {username[:200]!r}. See GET /v1/users.")


def _no_client(client_id: str) -> ClientNotFound:
    return ClientNotFound(f"There is no client {client_id[:200]!r}. See GET /v1/clients.")


def _storable(name: str) -> bool:
    """PostgreSQL's text takes no zero byte, so nobody can be called so."""
    return "\x00" not in name
