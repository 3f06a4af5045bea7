"""SQL of users, clients and refresh tokens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from lakegate_chassis.postgres import connection, tenant_transaction
from lakegate_gateway.errors import NameTaken


async def insert_user(pool: asyncpg.Pool, tenant: str, username: str, password_hash: str, scopes: list[str]) -> None:
    """Raises NameTaken."""
    try:
        async with tenant_transaction(pool, tenant) as tx:
            await tx.execute(
                "INSERT INTO users (username, tenant, password_hash, scopes) VALUES ($1, $2, $3, $4)",
                username,
                tenant,
                password_hash,
                scopes,
            )
    except asyncpg.UniqueViolationError as error:
        raise NameTaken(f"A user is already named {username!r}. Choose another name.") from error


async def insert_client(pool: asyncpg.Pool, tenant: str, client_id: str, secret_hash: bytes, scopes: list[str]) -> None:
    """Raises NameTaken."""
    try:
        async with tenant_transaction(pool, tenant) as tx:
            await tx.execute(
                "INSERT INTO clients (client_id, tenant, secret_hash, scopes) VALUES ($1, $2, $3, $4)",
                client_id,
                tenant,
                secret_hash,
                scopes,
            )
    except asyncpg.UniqueViolationError as error:
        raise NameTaken(f"A client is already named {client_id!r}. Choose another name.") from error


async def find_user(pool: asyncpg.Pool, username: str) -> asyncpg.Record | None:
    async with connection(pool) as acquired:
        row: asyncpg.Record | None = await acquired.fetchrow(
            "SELECT tenant, password_hash, scopes FROM find_user($1)", username
        )
    return row


async def find_client(pool: asyncpg.Pool, client_id: str) -> asyncpg.Record | None:
    async with connection(pool) as acquired:
        row: asyncpg.Record | None = await acquired.fetchrow(
            "SELECT tenant, secret_hash, scopes FROM find_client($1)", client_id
        )
    return row


async def find_refresh_token(pool: asyncpg.Pool, token_hash: bytes) -> asyncpg.Record | None:
    async with connection(pool) as acquired:
        row: asyncpg.Record | None = await acquired.fetchrow(
            "SELECT family, tenant, subject, scopes, expires_at, used_at FROM find_refresh_token($1)", token_hash
        )
    return row


async def insert_refresh_token(
    pool: asyncpg.Pool,
    tenant: str,
    token_hash: bytes,
    *,
    family: UUID,
    subject: str,
    scopes: list[str],
    expires_at: datetime,
) -> None:
    async with tenant_transaction(pool, tenant) as tx:
        await _insert_refresh_token(tx, tenant, token_hash, family, subject, scopes, expires_at)


async def rotate_refresh_token(
    pool: asyncpg.Pool, old: asyncpg.Record, old_hash: bytes, new_hash: bytes, expires_at: datetime
) -> bool:
    """Use the old token up and store the new one; False (and the family is gone) when it had been used before."""
    async with tenant_transaction(pool, old["tenant"]) as tx:
        first = await tx.fetchval(
            "UPDATE refresh_tokens SET used_at = now() WHERE token_hash = $1 AND used_at IS NULL RETURNING family",
            old_hash,
        )
        if first is None:
            await tx.execute("DELETE FROM refresh_tokens WHERE family = $1", old["family"])
            return False
        await _insert_refresh_token(
            tx, old["tenant"], new_hash, old["family"], old["subject"], list(old["scopes"]), expires_at
        )
    return True


async def drop_family(pool: asyncpg.Pool, tenant: str, family: UUID) -> None:
    async with tenant_transaction(pool, tenant) as tx:
        await tx.execute("DELETE FROM refresh_tokens WHERE family = $1", family)


async def drop_expired(pool: asyncpg.Pool) -> None:
    async with connection(pool) as acquired:
        await acquired.execute("SELECT drop_expired_refresh_tokens()")


async def _insert_refresh_token(
    tx: asyncpg.Connection,
    tenant: str,
    token_hash: bytes,
    family: UUID,
    subject: str,
    scopes: list[str],
    expires_at: datetime,
) -> None:
    await tx.execute(
        """
        INSERT INTO refresh_tokens (token_hash, family, tenant, subject, scopes, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        token_hash,
        family,
        tenant,
        subject,
        scopes,
        expires_at,
    )
