"""The SQL of leases on their way to a worker and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from lakegate_contracts.receipts import LoadState
from lakegate_ingest.loads.queries import give_back_attempt
from lakegate_ingest.loads.schemas import Progress

# beside the progress, which leaves alone what it does not know
_RETRIES = "commit_retries"


@dataclass(frozen=True)
class Standing:
    """A load and its lease; `owner` is None when it has none any more. `retries`: of its commit, as a worker tells."""

    state: LoadState
    owner: str | None
    offered: bool
    cancelled: bool
    progress: Progress | None
    retries: dict[str, int] = field(default_factory=dict)


def worker_owner(load_id: UUID, process: str) -> str:
    """What a worker of this load calls itself in the lease; `process` is no other's."""
    return f"{_prefix(load_id)}{process}"


def is_worker_of(owner: str | None, load_id: UUID) -> bool:
    return owner is not None and owner.startswith(_prefix(load_id))


def _prefix(load_id: UUID) -> str:
    return f"worker:{load_id}:"


async def offer(connection: Any, load_id: UUID, owner: str) -> bool:
    """Let a worker take it from this owner, who keeps beating until one does; False when it is not its own."""
    result = await connection.execute(
        "UPDATE leases SET offered = true, heartbeat_at = now(), progress = NULL WHERE load_id = $1 AND owner = $2",
        load_id,
        owner,
    )
    return bool(result == "UPDATE 1")


async def withdraw(connection: Any, load_id: UUID, owner: str) -> bool:
    """Offer it no longer; False when it was taken meanwhile."""
    result = await connection.execute(
        "UPDATE leases SET offered = false WHERE load_id = $1 AND owner = $2", load_id, owner
    )
    return bool(result == "UPDATE 1")


async def take(connection: Any, load_id: UUID, owner: str, lease_seconds: float) -> bool:
    """For a worker: what is offered, or whose owner went silent. It has a new owner in the same moment."""
    result = await connection.execute(
        """UPDATE leases SET owner = $2, offered = false, heartbeat_at = now()
           WHERE load_id = $1 AND (offered OR heartbeat_at < now() - make_interval(secs => $3))""",
        load_id, owner, lease_seconds,
    )  # fmt: skip
    return bool(result == "UPDATE 1")


async def take_back(connection: Any, load_id: UUID, owner: str) -> bool:
    """From a worker that is known to have ended."""
    result = await connection.execute(
        """UPDATE leases SET owner = $2, offered = false, heartbeat_at = now()
           WHERE load_id = $1 AND starts_with(owner, $3)""",
        load_id, owner, _prefix(load_id),
    )  # fmt: skip
    return bool(result == "UPDATE 1")


async def let_go(connection: Any, load_id: UUID, owner: str) -> None:
    """For a worker that can't go on: any replica may take it at once, and who followed this worker has lost it.

    An attempt that came to nothing here is none of the load's.
    """
    done = await connection.execute(
        "UPDATE leases SET owner = $3, offered = false, heartbeat_at = 'epoch' WHERE load_id = $1 AND owner = $2",
        load_id, owner, f"let go by {owner}",
    )  # fmt: skip
    if done == "UPDATE 1":
        await give_back_attempt(connection, load_id)


async def beat(connection: Any, load_id: UUID, owner: str, progress: Progress, retries: dict[str, int]) -> bool | None:
    """For a worker: renew the lease and tell the progress. True when the load was called off, None when it is lost."""
    cancelled: bool | None = await connection.fetchval(
        """UPDATE leases SET heartbeat_at = now(), progress = $3
           WHERE load_id = $1 AND owner = $2 RETURNING cancelled""",
        load_id, owner, progress.model_dump(mode="json") | {_RETRIES: retries},
    )  # fmt: skip
    return cancelled


async def lease(connection: Any, load_id: UUID) -> tuple[str, str] | None:
    """(tenant, owner); needs no tenant. None when the load has ended, or never was."""
    record = await connection.fetchrow("SELECT tenant, owner FROM leases WHERE load_id = $1", load_id)
    return (record["tenant"], record["owner"]) if record else None


async def standing(connection: Any, load_id: UUID) -> Standing:
    record = await connection.fetchrow(
        """SELECT state, owner, offered, cancelled, progress FROM loads LEFT JOIN leases USING (load_id)
           WHERE load_id = $1""",
        load_id,
    )
    if record is None:
        return Standing(LoadState.FAILED, None, offered=False, cancelled=False, progress=None)
    told = record["progress"] or {}
    return Standing(
        LoadState(record["state"]),
        record["owner"],
        bool(record["offered"]),
        bool(record["cancelled"]),
        Progress.model_validate(told) if told else None,
        told.get(_RETRIES, {}),
    )
