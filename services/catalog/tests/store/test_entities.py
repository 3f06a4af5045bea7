"""Names stay right through races and crashes, on every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from lakegate_catalog.store.entities import Entities, NameTaken, Refused, first_change, next_change
from lakegate_catalog.store.port import CatalogStore, Change, Claim, Name, SequenceTaken, Space

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def name(key: str) -> Name:
    return Name(Space.DATASET, key, "")


def first(tenant: str, key: str) -> Change:
    return replace(first_change(tenant, uuid4(), name(key), "created", datetime.now(UTC)), state={"made": key})


async def test_of_many_creators_of_one_name_exactly_one_wins(entities: Entities, tenant: str) -> None:
    rivals = [first(tenant, "a") for _ in range(12)]
    outcomes = await asyncio.gather(*(entities.create(name("a"), rival) for rival in rivals), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, Change)]
    assert len(won) == 1
    assert sum(isinstance(outcome, NameTaken) for outcome in outcomes) == 11
    found = await entities.store.named(tenant, name("a"))
    assert found is not None
    assert found.entity_id == won[0].entity_id


async def test_one_entity_created_or_renamed_twice_at_once_keeps_its_name(entities: Entities, tenant: str) -> None:
    made = first(tenant, "a")
    outcomes = await asyncio.gather(*(entities.create(name("a"), made) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(outcome, Change) for outcome in outcomes) == 1
    with pytest.raises(NameTaken):
        await entities.create(name("a"), first(tenant, "a"))
    renamed = next_change(made, "renamed")
    outcomes = await asyncio.gather(
        *(entities.rename(name("a"), name("b"), renamed) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Change) for outcome in outcomes) == 1
    with pytest.raises(NameTaken):
        await entities.create(name("b"), first(tenant, "b"))


async def test_a_rename_frees_the_old_name_and_takes_the_new_one(entities: Entities, tenant: str) -> None:
    made = await entities.create(name("a"), first(tenant, "a"))
    renamed = await entities.rename(name("a"), name("b"), next_change(made, "renamed"))
    assert (renamed.key, renamed.sequence) == ("b", 2)
    assert await entities.store.named(tenant, name("a")) is None
    await entities.create(name("a"), first(tenant, "a"))
    with pytest.raises(NameTaken):
        await entities.rename(name("b"), name("a"), next_change(renamed, "renamed"))


async def test_an_entity_can_be_renamed_back(entities: Entities, tenant: str) -> None:
    made = await entities.create(name("a"), first(tenant, "a"))
    there = await entities.rename(name("a"), name("b"), next_change(made, "renamed"))
    back = await entities.rename(name("b"), name("a"), next_change(there, "renamed"))
    assert await entities.store.named(tenant, name("a")) == back
    assert await entities.store.named(tenant, name("b")) is None


async def test_a_rename_that_loses_to_another_change_leaves_the_new_name_free(entities: Entities, tenant: str) -> None:
    made = await entities.create(name("a"), first(tenant, "a"))
    await entities.store.append(next_change(made, "described"))
    with pytest.raises(SequenceTaken):
        await entities.rename(name("a"), name("b"), next_change(made, "renamed"))
    await entities.create(name("b"), first(tenant, "b"))


async def test_a_guard_that_says_no_leaves_the_name_free(entities: Entities, tenant: str) -> None:
    async def no() -> bool:
        return False

    with pytest.raises(Refused):
        await entities.create(name("a"), first(tenant, "a"), no)
    assert await entities.store.claims(tenant, Space.DATASET, "") == []


async def test_a_removed_entity_frees_its_name(entities: Entities, tenant: str) -> None:
    made = await entities.create(name("a"), first(tenant, "a"))
    removed = await entities.remove(name("a"), next_change(made, "dropped"))
    assert removed.state is None
    await entities.create(name("a"), first(tenant, "a"))


async def test_a_crash_after_the_claim_of_a_new_entity_does_not_block_the_name(entities: Entities, tenant: str) -> None:
    dead = first(tenant, "a")
    await entities.store.claim(tenant, Claim(name("a"), dead.entity_id, 1, LONG_AGO))
    made = await entities.create(name("a"), first(tenant, "a"))
    assert await entities.store.named(tenant, name("a")) == replace(made, event=None)
    # the one that was taken for dead wakes up: its sequence is used up
    with pytest.raises(SequenceTaken):
        await entities.store.append(dead)


async def test_a_crash_between_claim_and_append_of_a_rename_does_not_block_the_new_name(
    entities: Entities, tenant: str
) -> None:
    made = await entities.create(name("a"), first(tenant, "a"))
    await entities.store.claim(tenant, Claim(name("b"), made.entity_id, 2, LONG_AGO))
    taken = await entities.create(name("b"), first(tenant, "b"))
    found = await entities.store.named(tenant, name("b"))
    assert found is not None
    assert found.entity_id == taken.entity_id
    with pytest.raises(SequenceTaken):
        await entities.store.append(replace(next_change(made, "renamed"), key="b"))
    still = await entities.store.named(tenant, name("a"))
    assert still is not None
    assert still.state == {"made": "a"}


async def test_a_crash_between_append_and_release_of_a_rename_does_not_block_the_old_name(
    entities: Entities, tenant: str
) -> None:
    made = await entities.create(name("a"), first(tenant, "a"))
    await entities.store.claim(tenant, Claim(name("b"), made.entity_id, 2, datetime.now(UTC)))
    await entities.store.append(replace(next_change(made, "renamed"), key="b"))
    # the release of "a" never happened
    await entities.create(name("a"), first(tenant, "a"))
    moved = await entities.store.named(tenant, name("b"))
    assert moved is not None
    assert moved.entity_id == made.entity_id


async def test_a_name_is_not_called_taken_before_it_is(entities: Entities, tenant: str) -> None:
    slow = first(tenant, "a")
    await entities.store.claim(tenant, Claim(name("a"), slow.entity_id, 1, datetime.now(UTC)))

    async def create() -> Change:
        return await entities.create(name("a"), first(tenant, "a"))

    rival = asyncio.create_task(create())
    await entities.store.append(slow)
    with pytest.raises(NameTaken):
        await rival
    assert await entities.store.named(tenant, name("a")) == slow


async def test_a_name_whose_claimant_gives_up_goes_to_the_one_who_waits(entities: Entities, tenant: str) -> None:
    refused = Claim(name("a"), uuid4(), 1, datetime.now(UTC))
    await entities.store.claim(tenant, refused)
    waiting = asyncio.create_task(entities.create(name("a"), first(tenant, "a")))
    await entities.store.release(tenant, refused)
    made = await waiting
    assert await entities.store.named(tenant, name("a")) == replace(made, event=None)


async def test_a_fenced_claim_whose_change_came_after_all_is_respected(store: CatalogStore, tenant: str) -> None:
    """The change arrives between the look at the claim and the fence: injected by a store that appends it then."""
    slow = first(tenant, "a")
    await store.claim(tenant, Claim(name("a"), slow.entity_id, 1, LONG_AGO))

    class Late(Entities):
        async def _fence(self, tenant: str, held: Claim, current: Change | None) -> None:
            await self.store.append(slow)
            await super()._fence(tenant, held, current)

    with pytest.raises(NameTaken):
        await Late(store, timedelta(0)).create(name("a"), first(tenant, "a"))
    assert await store.named(tenant, name("a")) == slow
