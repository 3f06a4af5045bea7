"""The SQL of uploads, in the caller's transaction; that on expiries needs no tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class UploadRow:
    upload_id: UUID
    tenant: str
    subject: str
    file_name: str
    content_type: str
    size_bytes: int | None
    # of who asked for the URL; None: a release that did not keep them
    scopes: tuple[str, ...] | None


async def insert_upload(connection: Any, upload: UploadRow, expires_at: datetime, kept_until: datetime) -> None:
    await connection.execute(
        """INSERT INTO uploads (upload_id, tenant, subject, file_name, content_type, size_bytes, expires_at, scopes)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        upload.upload_id, upload.tenant, upload.subject, upload.file_name, upload.content_type, upload.size_bytes,
        expires_at, upload.scopes,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO upload_expiries (upload_id, tenant, due_at, ends_at) VALUES ($1, $2, $3, $4)",
        upload.upload_id, upload.tenant, kept_until, expires_at,
    )  # fmt: skip


async def get_upload(connection: Any, upload_id: UUID) -> UploadRow | None:
    record = await connection.fetchrow(
        """SELECT upload_id, tenant, subject, file_name, content_type, size_bytes, scopes FROM uploads
           WHERE upload_id = $1""",
        upload_id,
    )
    if record is None:
        return None
    scopes = record["scopes"]
    return UploadRow(**dict(record) | {"scopes": tuple(scopes) if scopes is not None else None})


async def keep(connection: Any, upload_id: UUID, until: datetime) -> None:
    """Not to be deleted before: a load has taken it."""
    await connection.execute(
        "UPDATE upload_expiries SET due_at = greatest(due_at, $2) WHERE upload_id = $1", upload_id, until
    )


async def expire_now(connection: Any, upload_id: UUID) -> None:
    """Its file is loaded: the next sweep deletes it, wherever it runs."""
    await connection.execute("UPDATE upload_expiries SET due_at = now() WHERE upload_id = $1", upload_id)


async def due(connection: Any, limit: int) -> list[tuple[UUID, str]]:
    """(upload id, tenant), put off by an hour as they are taken, as cleanups are."""
    records = await connection.fetch(
        """UPDATE upload_expiries SET due_at = now() + interval '1 hour'
           WHERE upload_id IN (SELECT upload_id FROM upload_expiries WHERE due_at <= now()
                               ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
           RETURNING upload_id, tenant""",
        limit,
    )
    return [(record["upload_id"], record["tenant"]) for record in records]


async def awaited(connection: Any, upload_ids: list[UUID]) -> set[UUID]:
    """Those of them that a sweep will come to."""
    records = await connection.fetch("SELECT upload_id FROM upload_expiries WHERE upload_id = ANY($1)", upload_ids)
    return {record["upload_id"] for record in records}


async def delete_upload(connection: Any, upload_id: UUID, late: timedelta) -> bool:
    """Its file is deleted. While its URL may still bring another, only the expiry is kept, for one more look.

    `late`: how long after the URL's end a request that began before may arrive. Whether this was the last look.
    """
    await connection.execute("DELETE FROM uploads WHERE upload_id = $1", upload_id)
    again = await connection.fetchval(
        "UPDATE upload_expiries SET due_at = ends_at + $2 WHERE upload_id = $1 AND ends_at + $2 > now() RETURNING true",
        upload_id, late,
    )  # fmt: skip
    if not again:
        await connection.execute("DELETE FROM upload_expiries WHERE upload_id = $1", upload_id)
    return not again
