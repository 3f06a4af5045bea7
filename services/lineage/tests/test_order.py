"""The state depends on the set of events: not on their order, not on repeats, not on how they are batched."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakegate_chassis.postgres import tenant_transaction
from lakegate_lineage.datasets.aliases import Aliases
from lakegate_lineage.datasets.queries import describe_datasets
from lakegate_lineage.events import queries
from lakegate_lineage.events.changes import Changes, other_names
from lakegate_lineage.events.openlineage import Event, parse_event
from lakegate_lineage.events.writer import EventWriter
from lakegate_lineage.identity import dataset_id
from lakegate_lineage.settings import EventSettings

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
TABLES = {
    "events": "subject, event_time, digest",
    "jobs": "id",
    "datasets": "id",
    "facets": "owner, name",
    "runs": "id",
    "edges": "job_id, writes, dataset_id",
    "dataset_versions": "dataset_id, run_id",
    "symlinks": "dataset_id, alias_id",
    "column_edges": "dataset_id, field, source_id, source_field",
}

OURS = "lakegate://t"

# few names and few times, so that events collide
names = st.sampled_from(["a", "b", "c"])
times = st.integers(0, 4).map(lambda seconds: (T0 + timedelta(seconds=seconds)).isoformat())
runs = st.sampled_from([str(UUID(int=1)), str(UUID(int=2)), "manual__2026-03-01"])
facets = st.fixed_dictionaries(
    {},
    optional={
        "schema": st.fixed_dictionaries({"fields": st.lists(st.fixed_dictionaries({"name": names}), max_size=2)}),
        "version": st.fixed_dictionaries({"datasetVersion": names}),
        "symlinks": st.fixed_dictionaries(
            {
                "identifiers": st.lists(
                    st.fixed_dictionaries({"namespace": st.sampled_from(["alias", "db", OURS]), "name": names}),
                    max_size=2,
                )
            }
        ),
        "columnLineage": st.fixed_dictionaries(
            {
                "fields": st.dictionaries(
                    names,
                    st.fixed_dictionaries(
                        {
                            "inputFields": st.lists(
                                st.fixed_dictionaries({"namespace": st.just("db"), "name": names, "field": names}),
                                max_size=2,
                            )
                        }
                    ),
                    max_size=2,
                )
            }
        ),
    },
)
datasets = st.fixed_dictionaries(
    {"namespace": st.sampled_from(["db", "db", OURS]), "name": names}, optional={"facets": facets}
)
jobs = st.fixed_dictionaries({"namespace": st.just("etl"), "name": names}, optional={"facets": facets})
run_facets = st.fixed_dictionaries(
    {},
    optional={
        "parent": st.fixed_dictionaries(
            {
                "run": st.fixed_dictionaries({"runId": runs}),
                "job": st.fixed_dictionaries({"namespace": st.just("etl"), "name": names}),
            }
        ),
        "errorMessage": st.fixed_dictionaries({"message": names}),
    },
)
producer = st.just("https://producer.example/1")
run_events = st.fixed_dictionaries(
    {
        "eventTime": times,
        "producer": producer,
        "run": st.fixed_dictionaries({"runId": runs}, optional={"facets": run_facets}),
        "job": jobs,
        "inputs": st.lists(datasets, max_size=2),
        "outputs": st.lists(datasets, max_size=2),
    },
    optional={"eventType": st.sampled_from(["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"])},
)
job_events = st.fixed_dictionaries(
    {"eventTime": times, "producer": producer, "job": jobs, "inputs": st.lists(datasets)}
)
dataset_events = st.fixed_dictionaries({"eventTime": times, "producer": producer, "dataset": datasets})
any_event = st.one_of(run_events, run_events, job_events, dataset_events)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Event], list[list[Event]]]:
    """Events in one batch each, and the same events shuffled, some repeated, cut into batches elsewhere."""
    bodies = draw(st.lists(any_event, min_size=1, max_size=7))
    events = [parse_event(msgspec.json.encode(body), own=draw(st.booleans())) for body in bodies]
    again = draw(st.lists(st.sampled_from(events), max_size=4))
    shuffled = draw(st.permutations(events + again))
    cuts = sorted(draw(st.lists(st.integers(0, len(shuffled)), max_size=3)))
    edges = [0, *cuts, len(shuffled)]
    return events, [shuffled[start:stop] for start, stop in pairwise(edges) if stop > start]


async def dump(connection: Any, tenant: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row and column that events decide."""
    found = {}
    for table, key in TABLES.items():
        rows = await connection.fetch(f"SELECT * FROM {table} WHERE tenant = $1 ORDER BY {key}", tenant)
        found[table] = [
            tuple((name, value) for name, value in row.items() if name not in ("tenant", "received_at")) for row in rows
        ]
    return found


async def groups(connection: Any, ask_in: list[UUID]) -> dict[UUID, tuple[UUID, UUID]]:
    """Of each dataset the root of its group, and whose name the group carries."""
    aliases = await Aliases.open(connection, "t")
    for each in ask_in:
        await aliases.resolve([each])
    rows = await describe_datasets(connection, ask_in)
    return {each: (aliases.root(each), aliases.spokesman(aliases.members(aliases.root(each)), rows)) for each in ask_in}


async def after(pool: asyncpg.Pool, batches: list[list[Event]]) -> dict[str, list[tuple[Any, ...]]]:
    tenant = f"t-{uuid4().hex}"
    for batch in batches:
        async with tenant_transaction(pool, tenant) as connection:
            await queries.merge(connection, tenant, Changes.of(batch))
    async with tenant_transaction(pool, tenant) as connection:
        return await dump(connection, tenant)


@given(arrivals())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_order_repeats_and_batches_leave_the_same_state(
    pool: asyncpg.Pool, case: tuple[list[Event], list[list[Event]]]
) -> None:
    events, batches = case
    assert await after(pool, [[event] for event in events]) == await after(pool, batches)


@given(arrivals(), st.randoms(use_true_random=False))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_a_table_of_ours_stands_for_itself_whatever_is_linked_to_it_and_asked_first(
    pool: asyncpg.Pool, case: tuple[list[Event], list[list[Event]]], chance: random.Random
) -> None:
    found = []
    tables = {dataset_id(OURS, name) for name in "abc"}
    ids = [*tables, *(dataset_id(namespace, name) for namespace in ("db", "alias") for name in "abc")]
    for batches in (case[1], [case[0]]):
        tenant = f"t-{uuid4().hex}"
        for batch in batches:
            async with tenant_transaction(pool, tenant) as connection:
                await queries.merge(connection, tenant, Changes.of(batch))
        chance.shuffle(ids)
        async with tenant_transaction(pool, tenant) as connection:
            found.append(await groups(connection, ids))
    assert found[0] == found[1]
    # one that no event has named has no name to be told by
    named = {each for event in case[0] for each in named_by(event)}
    assert all(found[0][table] == (table, table) for table in tables & named)


def named_by(event: Event) -> set[UUID]:
    every = [*event.inputs, *event.outputs, *([event.dataset] if event.dataset else [])]
    names = [(dataset.namespace, dataset.name) for dataset in every]
    return {dataset_id(*name) for name in [*names, *(name for dataset in every for name in other_names(dataset))]}


async def test_two_replicas_that_write_the_same_rows_at_once_leave_the_same_state(pool: asyncpg.Pool) -> None:
    chance = random.Random(5)
    events = [
        parse_event(
            msgspec.json.encode(
                {
                    "eventType": chance.choice(["START", "RUNNING", "COMPLETE", "FAIL"]),
                    "eventTime": (T0 + timedelta(seconds=chance.randrange(30))).isoformat(),
                    "producer": "https://producer.example/1",
                    "run": {"runId": str(UUID(int=chance.randrange(1, 8)))},
                    "job": {"namespace": "etl", "name": f"job{chance.randrange(4)}"},
                    "inputs": [{"namespace": "db", "name": f"t{chance.randrange(6)}"} for _ in range(3)],
                    "outputs": [
                        {"namespace": "db", "name": f"t{chance.randrange(6)}", "facets": {"n": {"value": number}}}
                    ],
                }
            )
        )
        for number in range(400)
    ]
    tenant = f"t-{uuid4().hex}"

    async def replica(seed: int) -> list[list[object]]:
        writer = EventWriter(pool, EventSettings(flush_events=16))
        loop = asyncio.create_task(writer.run())
        mine = random.Random(seed).sample(events, len(events))
        results = await asyncio.gather(*(writer.write(tenant, [event]) for event in mine))
        loop.cancel()
        return [list(result) for result in results]

    for outcome in await asyncio.gather(replica(1), replica(2)):
        assert outcome == [[None]] * len(events)
    async with tenant_transaction(pool, tenant) as connection:
        together = await dump(connection, tenant)
    assert together == await after(pool, [events])
