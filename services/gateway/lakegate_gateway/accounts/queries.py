"""SQL of users, clients and refresh tokens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from lakegate_chassis.postgres import connection, tenant_transaction
from lakegate_gateway.errors import NameTaken
from lakegate_gateway.identity.revocations import Revocations


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


async def list_users(pool: asyncpg.Pool, tenant: str, after: str, limit: int) -> list[asyncpg.Record]:
    """By name, those after `after`."""
    async with tenant_transaction(pool, tenant) as tx:
        rows: list[asyncpg.Record] = await tx.fetch(
            "SELECT username AS name, scopes, created_at FROM users WHERE username > $1 ORDER BY username LIMIT $2",
            after,
            limit,
        )
    return rows


async def list_clients(pool: asyncpg.Pool, tenant: str, after: str, limit: int) -> list[asyncpg.Record]:
    """By client_id, those after `after`."""
    async with tenant_transaction(pool, tenant) as tx:
        rows: list[asyncpg.Record] = await tx.fetch(
            """
            SELECT client_id AS name, scopes, created_at FROM clients
            WHERE client_id > $1 ORDER BY client_id LIMIT $2
            """,
            after,
            limit,
        )
    return rows


async def delete_user(pool: asyncpg.Pool, revocations: Revocations, tenant: str, username: str) -> bool:
    """With all its logins and API keys. False when there is no such user."""
    async with tenant_transaction(pool, tenant) as tx:
        found = await tx.fetchval("DELETE FROM users WHERE username = $1 RETURNING true", username)
        await tx.execute("DELETE FROM refresh_tokens WHERE subject = $1", username)
        if found:
            await _revoke_keys(tx, username)
            await revocations.publish_subject(tx, tenant, username)
    return bool(found)


async def set_password(
    pool: asyncpg.Pool, revocations: Revocations, tenant: str, username: str, password_hash: str
) -> bool:
    """And end all its logins. False when there is no such user."""
    async with tenant_transaction(pool, tenant) as tx:
        # the row's lock first: a login or renewal under way holds it too, so what it stores is seen by the DELETE
        found = await tx.fetchval(
            """
            UPDATE users SET password_hash = $2, credential_id = gen_random_uuid()
            WHERE username = $1 RETURNING true
            """,
            username,
            password_hash,
        )
        await tx.execute("DELETE FROM refresh_tokens WHERE subject = $1", username)
        if found:
            await revocations.publish_subject(tx, tenant, username)
    return bool(found)


async def delete_client(pool: asyncpg.Pool, revocations: Revocations, tenant: str, client_id: str) -> bool:
    """With all its API keys. False when there is no such client."""
    async with tenant_transaction(pool, tenant) as tx:
        found = await tx.fetchval("DELETE FROM clients WHERE client_id = $1 RETURNING true", client_id)
        if found:
            await _revoke_keys(tx, f"client:{client_id}")
            await revocations.publish_subject(tx, tenant, f"client:{client_id}")
    return bool(found)


async def _revoke_keys(tx: asyncpg.Connection, subject: str) -> None:
    """Of an account that goes; the event about the subject ends them at every replica. An account that is called as
    the operator's own key is does not take that key, and what it made, along.
    """
    await tx.execute(
        """
        UPDATE api_keys SET revoked_at = now()
        WHERE subject = $1 AND subject <> 'bootstrap' AND revoked_at IS NULL
        """,
        subject,
    )


async def set_secret(
    pool: asyncpg.Pool, revocations: Revocations, tenant: str, client_id: str, secret_hash: bytes
) -> list[str] | None:
    """The client's scopes; None when there is no such client."""
    async with tenant_transaction(pool, tenant) as tx:
        scopes: list[str] | None = await tx.fetchval(
            """
            UPDATE clients SET secret_hash = $2, credential_id = gen_random_uuid()
            WHERE client_id = $1 RETURNING scopes
            """,
            client_id,
            secret_hash,
        )
        if scopes is not None:
            await revocations.publish_subject(tx, tenant, f"client:{client_id}")
    return scopes


async def find_user(pool: asyncpg.Pool, username: str) -> asyncpg.Record | None:
    async with connection(pool) as acquired:
        row: asyncpg.Record | None = await acquired.fetchrow(
            "SELECT tenant, password_hash, scopes, credential_id FROM find_user($1)", username
        )
    return row


async def find_client(pool: asyncpg.Pool, client_id: str) -> asyncpg.Record | None:
    async with connection(pool) as acquired:
        row: asyncpg.Record | None = await acquired.fetchrow(
            "SELECT tenant, secret_hash, scopes, credential_id FROM find_client($1)", client_id
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
    credential_id: UUID,
    scopes: list[str],
    expires_at: datetime,
) -> bool:
    """Begin a family; False when the user has another password by now."""
    async with tenant_transaction(pool, tenant) as tx:
        current = await tx.fetchval("SELECT credential_id FROM users WHERE username = $1 FOR SHARE", subject)
        if current != credential_id:
            return False
        await _insert_refresh_token(tx, tenant, token_hash, family, subject, scopes, expires_at)
    return True


async def rotate_refresh_token(
    pool: asyncpg.Pool, old: asyncpg.Record, old_hash: bytes, new_hash: bytes, expires_at: datetime
) -> bool:
    """Use the old token up and store the new one; False (and the family is gone) when it had been used before."""
    async with tenant_transaction(pool, old["tenant"]) as tx:
        # waits for a change of the password, and makes it wait
        await tx.execute("SELECT FROM users WHERE username = $1 FOR SHARE", old["subject"])
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


async def held_scopes(pool: asyncpg.Pool, tenant: str, subject: str) -> tuple[str, ...]:
    """Everything that a subject may do now, by whichever of its credentials: user, client, keys."""
    async with tenant_transaction(pool, tenant) as tx:
        rows = await tx.fetch(
            """
            SELECT unnest(scopes) AS scope FROM users WHERE username = $1
            UNION SELECT unnest(scopes) FROM clients WHERE 'client:' || client_id = $1
            UNION SELECT unnest(scopes) FROM api_keys
                WHERE subject = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
            """,
            subject,
        )
    return tuple(row["scope"] for row in rows)
