"""Entities and their names, on any store: create, change, rename and remove, safe against crashes and races.

The append of a change is the one moment at which something happens: a name belongs to an entity when the entity's
current change carries it. So a name is claimed before the append and the old one released after it, and a crash in
between leaves a claim that nothing carries. Whoever wants that name next sees so and takes it over; if the claim's
change may still come, its sequence is used up first (`fenced`), so that it can't come any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from lakegate_catalog.store.port import CatalogStore, Change, Claim, Name, SequenceTaken

# A claimant appends within one round trip; one that has not after this long is taken for dead, and fenced.
CLAIM_GRACE = timedelta(seconds=10)
TAKE_ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.25


Guard = Callable[[], Awaitable[bool]]


class Refused(Exception):
    """The guard, asked while the name was held, said no."""


class NameTaken(Exception):
    """Another entity carries the name."""


class _StillComing(Exception):
    """The change that the name was claimed for may come any moment."""


class Entities:
    """The rules of names over a store. Times are UTC; sequences begin at 1."""

    def __init__(self, store: CatalogStore, claim_grace: timedelta = CLAIM_GRACE) -> None:
        self.store = store
        self._grace = claim_grace

    async def create(self, name: Name, change: Change, guard: Guard | None = None) -> Change:
        """Append the first change of a new entity under `name`. Raises NameTaken, Refused."""
        try:
            return await self._append_named(name, change, guard)
        except SequenceTaken as error:
            raise NameTaken(f"{name.key} was taken over while it was claimed") from error

    async def rename(self, old: Name, new: Name, change: Change, guard: Guard | None = None) -> Change:
        """Append `change`, which carries `new` from then on, and give up `old`.

        Raises NameTaken, SequenceTaken, Refused.
        """
        appended = await self._append_named(new, change, guard)
        await self._release_old(old, appended)
        return appended

    async def remove(self, name: Name, change: Change) -> Change:
        """Append `change` as the last one, without a state, and give up the name. Raises SequenceTaken."""
        appended = await self.store.append(replace(change, key=None, state=None))
        await self._release_old(name, appended)
        return appended

    async def _append_named(self, name: Name, change: Change, guard: Guard | None) -> Change:
        claim = Claim(name, change.entity_id, change.sequence, datetime.now(UTC))
        await self._take(change.tenant, claim)
        if guard is not None and not await guard():
            await self._give_up(change.tenant, claim)
            raise Refused(name.key)
        try:
            return await self.store.append(replace(change, key=name.key))
        except SequenceTaken:
            # any other error leaves it open whether the change was stored: then the claim has to stay
            await self._give_up(change.tenant, claim)
            raise

    async def _give_up(self, tenant: str, claim: Claim) -> None:
        """Release it, unless another change of the same entity and sequence came first and carries the name by it."""
        current = await self.store.current(tenant, claim.entity_id)
        if current is None or (current.space, current.key) != (claim.name.space, claim.name.key):
            await self.store.release(tenant, claim)

    async def _take(self, tenant: str, wanted: Claim) -> None:
        """Claim the name. A claim in flight is waited for: "taken" must be true when it is said. Raises NameTaken."""
        # the first claim may have its whole grace to run, and one that came after it too
        deadline = asyncio.get_running_loop().time() + 2 * self._grace.total_seconds() + 1
        pause = FIRST_PAUSE_SECONDS
        attempts = 0
        while attempts < TAKE_ATTEMPTS and asyncio.get_running_loop().time() <= deadline:
            held = await self.store.claim(tenant, wanted)
            if (held.entity_id, held.sequence) == (wanted.entity_id, wanted.sequence):
                return
            try:
                await self._take_over(tenant, held)
                attempts += 1
            except _StillComing:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        raise NameTaken(f"{wanted.name.key} is claimed by others again and again")

    async def _take_over(self, tenant: str, held: Claim) -> None:
        """Release a claim that nothing carries and nothing will. Raises NameTaken, _StillComing when that is not so."""
        current = await self.store.current(tenant, held.entity_id)
        if current and current.key == held.name.key and current.space == held.name.space:
            raise NameTaken(f"{held.name.key} is in use")
        if current is None or current.sequence < held.sequence:
            if datetime.now(UTC) - held.claimed_at < self._grace:
                raise _StillComing
            await self._fence(tenant, held, current)
        await self.store.release(tenant, held)

    async def _fence(self, tenant: str, held: Claim, current: Change | None) -> None:
        """Use up the sequence that the claim was made for. Raises NameTaken if its change came after all."""
        fence = Change(
            tenant=tenant,
            entity_id=held.entity_id,
            sequence=held.sequence,
            kind="fenced",
            space=held.name.space,
            key=current.key if current else None,
            state=current.state if current else None,
            changed_at=datetime.now(UTC),
        )
        try:
            await self.store.append(fence)
        except SequenceTaken as error:
            raise NameTaken(f"{held.name.key} has just been taken") from error

    async def _release_old(self, name: Name, appended: Change) -> None:
        # The claim's sequence is that of the change that took the name, which only the store knows: ask it.
        probe = Claim(name, appended.entity_id, appended.sequence, datetime.now(UTC))
        held = await self.store.claim(appended.tenant, probe)
        if held.entity_id == appended.entity_id:
            await self.store.release(appended.tenant, held)


def next_change(current: Change, kind: str, at: datetime | None = None) -> Change:
    """The change after `current`, with its name and state still those of `current`."""
    return replace(
        current,
        sequence=current.sequence + 1,
        kind=kind,
        changed_at=at or datetime.now(UTC),
        event=None,
        position=None,
    )


def first_change(tenant: str, entity_id: UUID, name: Name, kind: str, at: datetime) -> Change:
    """The first change of an entity, without a state yet."""
    return Change(tenant, entity_id, 1, kind, name.space, name.key, None, at)
