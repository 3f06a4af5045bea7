"""Idempotency-Key: the first request with a key decides; a failed load gives its key back."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import orjson

from lakegate_contracts.names import TableName
from lakegate_contracts.receipts import LoadState
from lakegate_ingest.errors import BadIdempotencyKey, BadParameter, IdempotencyKeyReused, IdempotencyKeyRunning
from lakegate_ingest.loads.queries import LoadRow, get_load
from lakegate_ingest.loads.schemas import LoadOptions
from lakegate_ingest.spool.headers import BadHeader, parse_header
from lakegate_ingest.spool.receiving import BodyHeaders

MAX_KEY_CHARS = 255
RETRY_AFTER_SECONDS = 2
PURGE_ROWS = 500


def checked_key(key: str | None) -> str | None:
    """Raises BadIdempotencyKey."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise BadIdempotencyKey(
            f"An Idempotency-Key has 1 to {MAX_KEY_CHARS} printable ASCII characters; a UUID is a good one."
        )
    return key


async def claim(
    connection: Any,
    *,
    tenant: str,
    table: TableName,
    key: str,
    load_id: UUID,
    options: LoadOptions,
    body: BodyHeaders,
    hours: int,
) -> LoadRow | None:
    """Take the key for `load_id`, or give the completed load that holds it, whose body is then to be compared.

    Raises IdempotencyKeyRunning at once, before a body is read, and IdempotencyKeyReused when the options differ.
    """
    wanted = _fingerprint(options, body)
    await connection.execute(
        """DELETE FROM idempotency_keys WHERE (tenant, namespace, table_name, key) IN (
               SELECT tenant, namespace, table_name, key FROM idempotency_keys
               WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)""",
        PURGE_ROWS,
    )
    inserted = await connection.fetchval(
        """INSERT INTO idempotency_keys (tenant, namespace, table_name, key, load_id, options, expires_at)
           VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(hours => $7))
           ON CONFLICT DO NOTHING RETURNING load_id""",
        tenant, table.namespace, table.name, key, load_id, wanted, hours,
    )  # fmt: skip
    if inserted is not None:
        return None
    held = await connection.fetchrow(
        """SELECT load_id, options, expires_at < now() AS expired FROM idempotency_keys
           WHERE namespace = $1 AND table_name = $2 AND key = $3 FOR UPDATE""",
        table.namespace, table.name, key,
    )  # fmt: skip
    first = await get_load(connection, held["load_id"]) if held is not None else None
    if held is None or first is None or held["expired"] or first.state is LoadState.FAILED:
        await connection.execute(
            """UPDATE idempotency_keys SET load_id = $4, options = $5, expires_at = now() + make_interval(hours => $6)
               WHERE namespace = $1 AND table_name = $2 AND key = $3""",
            table.namespace, table.name, key, load_id, wanted, hours,
        )  # fmt: skip
        return None
    if held["options"] != wanted:
        raise reused(first)
    if first.state is not LoadState.COMPLETED:
        raise IdempotencyKeyRunning(
            f"The first request with this key is load {first.load_id}, which is {first.state.value}. "
            "Ask again when it has ended.",
            headers={"retry-after": str(RETRY_AFTER_SECONDS)},
            load_id=str(first.load_id),
        )
    return first


async def completed(
    connection: Any, *, table: TableName, key: str, options: LoadOptions, body: BodyHeaders
) -> LoadRow | None:
    """The completed load that holds this key with these options, if there is one; nothing is claimed."""
    load_id = await connection.fetchval(
        """SELECT load_id FROM idempotency_keys
           WHERE namespace = $1 AND table_name = $2 AND key = $3 AND options = $4 AND expires_at > now()""",
        table.namespace, table.name, key, _fingerprint(options, body),
    )  # fmt: skip
    first = await get_load(connection, load_id) if load_id is not None else None
    return first if first is not None and first.state is LoadState.COMPLETED else None


def _fingerprint(options: LoadOptions, body: BodyHeaders) -> str:
    """Everything but the body that decides what the load becomes; the boundary of a multipart body is random.

    Raises BadParameter.
    """
    try:
        header = parse_header("Content-Type", " ".join(body.content_type.split()))
    except BadHeader as error:
        raise BadParameter(str(error)) from error
    pairs = ((header.value, ""), *header.parameters)
    kept = sorted([name, value] for name, value in pairs if name != "boundary")
    encoding = (body.content_encoding or "").strip().lower()
    parts = [options.model_dump_json(), kept, encoding, body.file_name]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def reused(first: LoadRow) -> IdempotencyKeyReused:
    return IdempotencyKeyReused(
        f"This key belongs to load {first.load_id}, with another body, type or options. A new load needs a new key.",
        load_id=str(first.load_id),
    )
