"""What every catalog store does: the contract of `lakegate_catalog.store.port`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from lakegate_catalog.store.port import SEPARATOR, CatalogStore, Change, Claim, Name, SequenceTaken, Space
from lakegate_chassis.eventlog import PostgresEventLog
from lakegate_contracts.events import DATASETS, DatasetChanged

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


def name(key: str, parent: str = "") -> Name:
    return Name(Space.DATASET, key, parent)


def change(tenant: str, sequence: int, key: str | None = "a", entity_id: UUID | None = None, **state: object) -> Change:
    return Change(
        tenant, entity_id or uuid4(), sequence, "changed", Space.DATASET, key, dict(state) if key else None, AT
    )


async def named(store: CatalogStore, tenant: str, key: str, parent: str = "") -> Change:
    """An entity with one change and its name."""
    made = change(tenant, 1, key, label=key)
    await store.claim(tenant, Claim(name(key, parent), made.entity_id, 1, AT))
    return await store.append(made)


async def test_the_highest_sequence_is_the_current_state(store: CatalogStore, tenant: str) -> None:
    first = await store.append(change(tenant, 1, rows=1))
    second = await store.append(replace(first, sequence=2, state={"rows": 2, "nested": {"a": [1, None, "é"]}}))
    assert await store.current(tenant, first.entity_id) == second
    assert await store.history(tenant, first.entity_id) == [second, first]
    assert await store.history(tenant, first.entity_id, before=2) == [first]
    assert await store.history(tenant, first.entity_id, limit=1) == [second]
    assert await store.change(tenant, first.entity_id, 1) == first
    assert await store.change(tenant, first.entity_id, 3) is None


async def test_a_sequence_is_taken_once(store: CatalogStore, tenant: str) -> None:
    first = await store.append(change(tenant, 1, by="first"))
    with pytest.raises(SequenceTaken):
        await store.append(replace(first, state={"by": "second"}))
    current = await store.current(tenant, first.entity_id)
    assert current is not None
    assert current.state == {"by": "first"}


async def test_of_many_writers_of_one_sequence_exactly_one_wins(store: CatalogStore, tenant: str) -> None:
    for sequence in (1, 2, 3):
        rivals = [change(tenant, sequence, "a", UUID(int=7), by=number) for number in range(16)]
        outcomes = await asyncio.gather(*(store.append(rival) for rival in rivals), return_exceptions=True)
        won = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, SequenceTaken)]
        assert (len(won), len(lost)) == (1, 15)
        current = await store.current(tenant, UUID(int=7))
        assert current is not None
        assert current.state == won[0].state


async def test_a_name_is_claimed_once_and_the_loser_learns_by_whom(store: CatalogStore, tenant: str) -> None:
    claims = [Claim(name("a"), uuid4(), 1, AT) for _ in range(16)]
    held = await asyncio.gather(*(store.claim(tenant, claim) for claim in claims))
    winners = {(claim.entity_id, claim.sequence) for claim in held}
    assert len(winners) == 1
    assert winners.pop() in {(claim.entity_id, 1) for claim in claims}


async def test_a_claim_is_released_by_its_holder_only(store: CatalogStore, tenant: str) -> None:
    mine = Claim(name("a"), uuid4(), 3, AT)
    await store.claim(tenant, mine)
    assert not await store.release(tenant, replace(mine, entity_id=uuid4()))
    assert not await store.release(tenant, replace(mine, sequence=2))
    assert await store.release(tenant, mine)
    assert not await store.release(tenant, mine)


async def test_a_name_is_carried_once_its_change_is_there(store: CatalogStore, tenant: str) -> None:
    made = change(tenant, 1, "a")
    await store.claim(tenant, Claim(name("a"), made.entity_id, 1, AT))
    assert await store.named(tenant, name("a")) is None
    assert len(await store.claims(tenant, Space.DATASET, "")) == 1
    await store.append(made)
    assert await store.named(tenant, name("a")) == made
    await store.append(replace(made, sequence=2, key="b"))
    assert await store.named(tenant, name("a")) is None
    assert await store.listed(tenant, Space.DATASET) == []


async def test_lists_are_in_order_of_keys_and_can_be_gone_on_with(store: CatalogStore, tenant: str) -> None:
    for key in ("b", "B", "a_", "aé", "a", "a.b", "zz"):
        await named(store, tenant, key)
    everything = [found.key for found in await store.listed(tenant, Space.DATASET)]
    assert everything == sorted(everything, key=lambda key: (key or "").encode())
    assert len(everything) == 7
    pages, after = [], ""
    while page := await store.listed(tenant, Space.DATASET, after=after, limit=2):
        pages += [found.key for found in page]
        after = pages[-1] or ""
    assert pages == everything
    assert [found.key for found in await store.listed(tenant, Space.DATASET, prefix="a")] == ["a", "a.b", "a_", "aé"]
    # characters that mean something to LIKE and to regular expressions mean nothing here
    assert await store.listed(tenant, Space.DATASET, prefix="%") == []


async def test_lists_go_by_parent_and_space(store: CatalogStore, tenant: str) -> None:
    await named(store, tenant, "x/1", "x")
    await named(store, tenant, "y/1", "y")
    assert [found.key for found in await store.listed(tenant, Space.DATASET, parent="x")] == ["x/1"]
    assert await store.listed(tenant, Space.NAMESPACE) == []


@pytest.mark.parametrize(
    ("areas", "keys"),
    [
        (["travel.*"], ["1", "2"]),
        (["travel"], ["1"]),
        (["t*"], ["1", "2", "3"]),
        (["travel.?s"], ["2"]),
        (["kafka://*", "a+(b"], ["4", "5"]),
        (["lakegate*", "*travel.eu)"], []),
        ([], []),
    ],
)
async def test_lists_keep_to_areas(store: CatalogStore, tenant: str, areas: list[str], keys: list[str]) -> None:
    ours = f"lakegate://{tenant}{SEPARATOR}"
    parents = [f"{ours}travel", f"{ours}travel.us", f"{ours}travels", "kafka://k", f"{ours}a+(b"]
    for number, parent in enumerate(parents, 1):
        await named(store, tenant, str(number), parent)
    assert [found.key for found in await store.listed(tenant, Space.DATASET, areas=areas)] == keys


async def test_an_entity_that_is_gone_is_in_no_list_but_keeps_its_history(store: CatalogStore, tenant: str) -> None:
    made = await named(store, tenant, "a")
    await store.append(replace(made, sequence=2, key=None, state=None))
    assert await store.listed(tenant, Space.DATASET) == []
    assert await store.named(tenant, name("a")) is None
    assert len(await store.history(tenant, made.entity_id)) == 2


async def test_tenants_do_not_see_each_other(store: CatalogStore, tenant: str) -> None:
    made = await named(store, tenant, "a")
    other = f"{tenant}-other"
    assert await store.current(other, made.entity_id) is None
    assert await store.history(other, made.entity_id) == []
    assert await store.named(other, name("a")) is None
    assert await store.listed(other, Space.DATASET) == []
    assert (await named(store, other, "a")).entity_id != made.entity_id


async def test_everything_walks_all_tenants_current_states(store: CatalogStore, tenant: str) -> None:
    wanted = {}
    for owner in (tenant, f"{tenant}-b"):
        for number in range(5):
            made = await named(store, owner, f"k{number}")
            last = await store.append(replace(made, sequence=2, state={"number": number}))
            wanted[made.entity_id] = last.state
    gone = await named(store, tenant, "gone")
    await store.append(replace(gone, sequence=2, key=None, state=None))
    found = {}
    async for batch in store.everything(Space.DATASET, batch=3):
        assert len(batch) <= 3
        found |= {each.entity_id: each.state for each in batch if each.tenant.startswith(tenant)}
    assert found == wanted


async def test_a_change_and_its_event_are_stored_together(store: CatalogStore, tenant: str, pool: asyncpg.Pool) -> None:
    log = PostgresEventLog(pool)
    before = await log.head()
    made = change(tenant, 1)
    event = DatasetChanged(
        dataset_id=made.entity_id, version=1, kind="created", namespace="n", name="a", dataset=None, changed_at=AT
    )
    appended = await store.append(replace(made, event=event))
    with pytest.raises(SequenceTaken):
        await store.append(replace(made, event=event))
    assert appended.position is not None
    assert appended.position > before
    published = []
    async for events in log.read([DATASETS], before, follow=False):
        published += [each for each in events if each.tenant == tenant]
    assert [(each.key, each.data["version"]) for each in published] == [(str(made.entity_id), 1)]
    assert published[0].at <= appended.position
