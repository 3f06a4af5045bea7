"""The client, sync and async, through a load's whole life on a real suite."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from suites import Suite, until

from lakegate import AsyncClient, Client
from lakegate.client import LoadFailed, NotAllowed, NotFound, Refused
from lakegate.client.operations import table_path
from lakegate_contracts.receipts import Receipt

CLEAN = b"id,amount\n1,10\n2,20\n"
DIRTY = b"id,amount\n3,thirty\n4,40\nfive,fifty\n"


@pytest.fixture
def lake(suite: Suite) -> Iterator[Client]:
    with Client(suite.url, suite.key) as client:
        yield client


@pytest.fixture
async def alake(suite: Suite) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(suite.url, suite.key) as client:
        yield client


def test_a_load_from_push_to_rows(lake: Client) -> None:
    sent: list[tuple[int, int | None]] = []
    states: list[str] = []

    clean = lake.push(CLEAN, "client.orders", on_upload=lambda *seen: sent.append(seen))
    dirty = lake.push(
        io.BytesIO(DIRTY), "client.orders", name="dirty.csv", on_event=lambda event: states.append(event.state)
    )

    assert sent[-1] == (len(CLEAN), len(CLEAN))
    assert states[-1] == "completed"
    assert (clean.rows_written, dirty.rows_written, dirty.quarantine.rows) == (2, 1, 2)
    assert lake.load(dirty.load_id).receipt == dirty
    assert lake.wait(dirty.load_id) == dirty
    rejects = list(lake.all_rejects(dirty.load_id, page_size=1))
    assert [(item.line, item.column) for item in rejects] == [(2, "amount"), (4, "id"), (4, "amount")]
    rows = lake.rows("client.orders", columns=["id"], filter="amount >= 20")
    assert sorted(row["id"] for row in rows) == [2, 4]
    assert dirty.load_id in [item.load_id for item in lake.loads(table="client.orders").items]


def test_the_catalog_as_models(lake: Client) -> None:
    receipt = lake.push(CLEAN, "client.catalogued")
    lake.push(b"id,amount,note\n3,30,x\n", "client.catalogued")

    found = lake.search("catalogued", consistency_token=receipt.consistency_token).items
    dataset = lake.dataset(found[0].id)
    described = lake.describe_dataset(dataset.id, description="Orders of the shop.", owner="ann", tags=["shop"])
    versions = lake.dataset_versions(dataset.id).items
    diff = lake.dataset_diff(dataset.id, receipt.catalog_version or 0, described.version)

    assert dataset.name == "client.catalogued"
    assert dataset.schema_ is not None
    assert [field.name for field in dataset.schema_.fields] == ["id", "amount", "note"]
    assert (described.description, described.owner, described.tags) == ("Orders of the shop.", "ann", ["shop"])
    assert versions[0].version == described.version
    assert [field.name for field in diff.added] == ["note"]
    assert "client.catalogued" in [item.name for item in lake.all_datasets(page_size=2)]
    assert lake.overview("client.catalogued").dataset is not None


def test_lineage_as_a_graph(lake: Client) -> None:
    lake.push(CLEAN, "client.traced", name="traced.csv")
    namespace = "lakegate://default"

    def edges() -> Any:
        try:
            return lake.lineage(namespace, "client.traced", direction="up").edges
        except NotFound:
            return None

    assert len(until(edges)) == 2


def test_refusals_carry_the_servers_problem(lake: Client, suite: Suite) -> None:
    with pytest.raises(Refused) as empty:
        lake.push(b"", "client.empty")
    with pytest.raises((Refused, LoadFailed)) as followed:
        lake.push(b"", "client.empty", on_event=lambda event: None)
    with pytest.raises(NotFound):
        lake.dataset("00000000-0000-0000-0000-000000000000")
    with Client(suite.url, "lgk_wrong") as stranger, pytest.raises(NotAllowed):
        stranger.datasets()

    for caught in (empty, followed):
        assert caught.value.problem.type.startswith("/problems/")
        assert (caught.value.problem.trace_id or "").strip("0")


def test_keys_come_and_go(lake: Client, suite: Suite) -> None:
    made = lake.create_key("reader", ["datasets:read"], expires_in_seconds=60)
    with Client(suite.url, made.key) as reader:
        assert reader.datasets(limit=1) is not None
    assert made.id in [key.id for key in lake.keys().items]

    lake.revoke_key(made.id)

    assert made.id not in [key.id for key in lake.keys().items]


LINE_ENDS_OF_UNICODE = "a\u2028b\u2029c\u0085d"


async def test_rows_end_at_line_feeds_only(lake: Client, alake: AsyncClient) -> None:
    lake.push(f"id,note\n1,{LINE_ENDS_OF_UNICODE}\n2,x\n".encode(), "client.lines")

    rows = list(lake.rows("client.lines"))
    assert {row["id"]: row["note"] for row in rows} == {1: LINE_ENDS_OF_UNICODE, 2: "x"}
    assert [row async for row in alake.rows("client.lines")] == rows


async def test_the_async_client_does_the_same(alake: AsyncClient) -> None:
    states: list[str] = []

    receipt = await alake.push(
        DIRTY, "client.awaited", null=["thirty"], on_event=lambda event: states.append(event.state)
    )
    begun = await alake.start_push(CLEAN, "client.awaited")

    assert states[-1] == "completed"
    settled = begun if isinstance(begun, Receipt) else await alake.wait(begun.load_id)
    assert settled.rows_in == 2
    assert (await alake.load(receipt.load_id)).settled
    assert [row async for row in alake.rows("client.awaited", limit=1)]
    assert len([item async for item in alake.all_rejects(receipt.load_id)]) == receipt.quarantine.rows
    found = await alake.search("awaited", consistency_token=receipt.consistency_token)
    assert "client.awaited" in [item.name for item in found.items]
    with pytest.raises(Refused):
        await alake.push(b"", "client.awaited")


def test_a_table_path_is_two_segments() -> None:
    assert table_path("a.b.c") == "a.b/c"
