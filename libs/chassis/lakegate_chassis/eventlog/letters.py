"""Dead letters as rows: both adapters keep them here, where they can be listed, replayed and settled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg

from lakegate_chassis.eventlog.port import STRANGER, DeadLetter, Event
from lakegate_chassis.eventlog.rows import COLUMNS, json_text, to_dead_letter

BURY = """
    INSERT INTO eventlog.dead_letters AS d (group_name, event_id, position, topic, key, type, source,
        tenant, time, traceparent, data, reason, attempts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $13)
    ON CONFLICT (group_name, event_id) DO UPDATE SET reason = excluded.reason,
        attempts = d.attempts + excluded.attempts, failed_at = now(), replay_requested_at = NULL
"""
# What an event is refused with that no row can hold: trying again is in vain.
REFUSED = (TypeError, ValueError, OverflowError, asyncpg.DataError, asyncpg.ProgramLimitExceededError)
SELECT = f"""
    SELECT id, group_name, reason, attempts, failed_at, replay_requested_at, {COLUMNS} FROM eventlog.dead_letters
"""


async def bury(connection: Any, group: str, event: Event, reason: str, attempts: int) -> None:
    """Add the event, or another failure of an event that is there already. Raises REFUSED."""
    await connection.execute(
        BURY,
        group,
        event.id,
        event.at,
        _text(event.topic),
        _text(event.key),
        _text(event.type),
        _text(event.source),
        _text(event.tenant),
        event.time,
        None if event.traceparent is None else _text(event.traceparent),
        json_text(event.data),
        _text(reason),
        attempts,
    )


async def requested(connection: Any, group: str, limit: int) -> list[DeadLetter]:
    """The group's letters that somebody asked to try again, oldest first."""
    rows = await connection.fetch(
        f"{SELECT} WHERE group_name = $1 AND replay_requested_at IS NOT NULL ORDER BY position LIMIT $2", group, limit
    )
    return [to_dead_letter(row) for row in rows]


async def settle(connection: Any, letter: DeadLetter, failure: str | None) -> None:
    """None: the letter goes. Else it stays with the new reason."""
    if failure is None:
        await connection.execute("DELETE FROM eventlog.dead_letters WHERE id = $1", letter.id)
        return
    await connection.execute(
        """
        UPDATE eventlog.dead_letters
        SET reason = $2, attempts = attempts + 1, failed_at = now(), replay_requested_at = NULL WHERE id = $1
        """,
        letter.id,
        _text(failure),
    )


async def prune_strangers(connection: Any, keep: timedelta, limit: int) -> int:
    """Delete letters of what was no event of ours; the topic of dead letters has them for longer."""
    status: str = await connection.execute(
        """
        DELETE FROM eventlog.dead_letters WHERE id IN (
            SELECT id FROM eventlog.dead_letters WHERE type = $1 AND failed_at < now() - $2::interval LIMIT $3
        )
        """,
        STRANGER,
        keep,
        limit,
    )
    return int(status.removeprefix("DELETE "))


def _text(value: str) -> str:
    """What PostgreSQL's text can hold: no NUL and no half of a surrogate pair. A reason may quote a user's data."""
    return value.replace("\0", "\ufffd").encode(errors="replace").decode()
