"""Namespaces of Iceberg REST: made, described, emptied and dropped."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from .conftest import SCHEMA, Create, error


@pytest.mark.parametrize("levels", [["a.b"], ["a/b"], [""], [" a"], [], ["a\x1fb"]])
async def test_namespaces_that_no_path_could_name_are_refused(
    client: httpx.AsyncClient, iceberg: str, levels: list[str]
) -> None:
    answer = await client.post(f"{iceberg}/namespaces", json={"namespace": levels})
    assert error(answer) == (400, "BadRequestException")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"namespace": "travel"}', b'{"properties": {}}'])
async def test_bodies_that_are_no_request_are_refused(client: httpx.AsyncClient, iceberg: str, body: bytes) -> None:
    assert error(await client.post(f"{iceberg}/namespaces", content=body)) == (400, "BadRequestException")


async def test_a_namespace_and_what_is_missing_above_it_are_created(client: httpx.AsyncClient, iceberg: str) -> None:
    made = await client.post(f"{iceberg}/namespaces", json={"namespace": ["a", "b"], "properties": {"k": "v"}})
    assert made.json() == {"namespace": ["a", "b"], "properties": {"k": "v"}}
    assert (await client.get(f"{iceberg}/namespaces")).json()["namespaces"] == [["a"]]
    below = await client.get(f"{iceberg}/namespaces", params={"parent": "a"})
    assert below.json()["namespaces"] == [["a", "b"]]
    assert (await client.get(f"{iceberg}/namespaces/a%1Fb")).json()["properties"] == {"k": "v"}
    again = await client.post(f"{iceberg}/namespaces", json={"namespace": ["a", "b"]})
    assert error(again) == (409, "AlreadyExistsException")


async def test_what_is_not_there_is_said_in_icebergs_words(
    client: httpx.AsyncClient, iceberg: str, travel: str
) -> None:
    nowhere = f"{iceberg}/namespaces/nowhere"
    missing = {
        "namespace": [
            await client.get(nowhere),
            await client.delete(nowhere),
            await client.post(f"{nowhere}/properties", json={"updates": {"a": "b"}}),
            await client.get(f"{nowhere}/tables"),
            await client.post(f"{nowhere}/tables", json={"name": "t", "schema": SCHEMA}),
            await client.get(f"{iceberg}/namespaces", params={"parent": "nowhere"}),
        ],
        "table": [
            await client.get(f"{travel}/tables/none"),
            await client.delete(f"{travel}/tables/none"),
            await client.post(f"{travel}/tables/none", json={"requirements": [], "updates": []}),
            await client.post(
                f"{iceberg}/tables/rename",
                json={
                    "source": {"namespace": ["travel"], "name": "none"},
                    "destination": {"namespace": ["travel"], "name": "other"},
                },
            ),
        ],
    }
    assert {error(answer) for answer in missing["namespace"]} == {(404, "NoSuchNamespaceException")}
    assert {error(answer) for answer in missing["table"]} == {(404, "NoSuchTableException")}
    assert (await client.head(nowhere)).status_code == 404
    assert (await client.head(f"{travel}/tables/none")).status_code == 404


async def test_a_property_is_not_removed_and_updated_at_once(client: httpx.AsyncClient, travel: str) -> None:
    answer = await client.post(f"{travel}/properties", json={"removals": ["a"], "updates": {"a": "b"}})
    assert error(answer) == (422, "UnprocessableEntityException")


async def test_a_namespace_with_tables_or_namespaces_is_not_dropped(
    client: httpx.AsyncClient, iceberg: str, travel: str, create: Create
) -> None:
    await create()
    assert error(await client.delete(travel)) == (409, "NamespaceNotEmptyException")
    await client.delete(f"{travel}/tables/flights")
    await client.post(f"{iceberg}/namespaces", json={"namespace": ["travel", "eu"]})
    assert error(await client.delete(travel)) == (409, "NamespaceNotEmptyException")
    await client.delete(f"{travel}%1Feu")
    assert (await client.delete(travel)).status_code == 204


async def test_a_table_never_ends_up_in_a_namespace_that_is_dropped_meanwhile(
    client: httpx.AsyncClient, iceberg: str
) -> None:
    for round_ in range(10):
        namespace = f"{iceberg}/namespaces/n{round_}"
        await client.post(f"{iceberg}/namespaces", json={"namespace": [f"n{round_}"]})
        created, dropped = await asyncio.gather(
            client.post(f"{namespace}/tables", json={"name": "t", "schema": SCHEMA}), client.delete(namespace)
        )
        there = (await client.head(namespace)).status_code == 204
        assert there or created.status_code == 404
        assert (created.status_code, dropped.status_code) != (200, 204)
