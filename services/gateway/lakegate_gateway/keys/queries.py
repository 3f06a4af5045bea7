"""SQL of API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from lakegate_chassis.postgres import connection, tenant_transaction
from lakegate_gateway.identity.revocations import Revocations

_COLUMNS = "id, tenant, subject, name, prefix, scopes, created_at, created_by, expires_at, last_used_at, revoked_at"


async def insert(pool: asyncpg.Pool, tenant: str, key_hash: bytes, values: dict[str, Any]) -> asyncpg.Record:
    async with tenant_transaction(pool, tenant) as tx:
        row: asyncpg.Record = await tx.fetchrow(
            f"""
            INSERT INTO api_keys (id, tenant, subject, name, key_hash, prefix, scopes, created_by, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}
            """,
            values["id"],
            tenant,
            values["subject"],
            values["name"],
            key_hash,
            values["prefix"],
            list(values["scopes"]),
            values["created_by"],
            values["expires_at"],
        )
    return row


async def upsert_bootstrap(
    pool: asyncpg.Pool, tenant: str, id: UUID, key_hash: bytes, prefix: str, name: str, scopes: list[str]
) -> None:
    """Make the key valid, whatever was done to it; `id` follows from the hash, so every replica writes the same row."""
    async with tenant_transaction(pool, tenant) as tx:
        await tx.execute(
            """
            INSERT INTO api_keys (id, tenant, subject, name, key_hash, prefix, scopes, created_by)
            VALUES ($1, $2, 'bootstrap', $6, $3, $4, $5, 'bootstrap')
            ON CONFLICT (key_hash) DO UPDATE SET scopes = excluded.scopes, revoked_at = NULL, expires_at = NULL
            """,
            id,
            tenant,
            key_hash,
            prefix,
            scopes,
            name,
        )


async def find(pool: asyncpg.Pool, key_hash: bytes) -> asyncpg.Record | None:
    """The key of a hash, in whatever tenant, revoked or not."""
    async with connection(pool) as acquired:
        row: asyncpg.Record | None = await acquired.fetchrow(f"SELECT {_COLUMNS} FROM find_api_key($1)", key_hash)
    return row


async def is_in_force(pool: asyncpg.Pool, tenant: str, id: UUID) -> bool:
    async with tenant_transaction(pool, tenant) as tx:
        found = await tx.fetchval(
            "SELECT revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) FROM api_keys WHERE id = $1", id
        )
    return bool(found)


async def list_page(
    pool: asyncpg.Pool, tenant: str, before: tuple[datetime, UUID] | None, limit: int
) -> list[asyncpg.Record]:
    """Newest first, revoked ones left out."""
    async with tenant_transaction(pool, tenant) as tx:
        rows: list[asyncpg.Record] = await tx.fetch(
            f"""
            SELECT {_COLUMNS} FROM api_keys
            WHERE revoked_at IS NULL AND ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid))
            ORDER BY created_at DESC, id DESC LIMIT $3
            """,
            *(before or (None, None)),
            limit,
        )
    return rows


async def revoke(pool: asyncpg.Pool, revocations: Revocations, tenant: str, id: UUID) -> bool:
    """False when there is no such key, or it is revoked already."""
    async with tenant_transaction(pool, tenant) as tx:
        revoked = await tx.fetchval(
            "UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id", id
        )
        if revoked is not None:
            await revocations.publish_key(tx, tenant, id)
    return revoked is not None


async def touch(pool: asyncpg.Pool, used: dict[UUID, datetime]) -> None:
    """Write when each key was last used."""
    ids = sorted(used)
    async with connection(pool) as acquired:
        await acquired.execute("SELECT touch_api_keys($1, $2)", ids, [used[id] for id in ids])
