"""Search over HTTP: found at once after the write, by beginnings and with typing errors, and only what one may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

Connect = Callable[..., httpx.AsyncClient]
Add = Callable[..., Awaitable[str]]


@pytest.fixture
def add(client: httpx.AsyncClient) -> Add:
    """Register a dataset; returns the consistency token of the write."""

    async def register(name: str, namespace: str = "kafka://k", columns: tuple[str, ...] = (), **more: Any) -> str:
        fields = [{"name": column, "type": "string"} for column in columns]
        body = {"namespace": namespace, "name": name, "schema": {"fields": fields}, **more}
        answer = await client.post("/v1/datasets", json=body)
        assert answer.status_code == 201, answer.text
        return answer.headers["lakegate-consistency-token"]

    return register


async def names(client: httpx.AsyncClient, token: str, q: str = "", **parameters: Any) -> list[str]:
    answer = await client.get("/v1/search", params={"q": q, "consistency_token": token, **parameters})
    assert answer.status_code == 200, answer.text
    return [each["name"] for each in answer.json()["items"]]


async def test_a_search_with_the_token_of_a_write_sees_the_write(client: httpx.AsyncClient, add: Add) -> None:
    for number in range(20):
        token = await add(f"stream.number{number}")
        assert await names(client, token, f"number{number}") != []
    answer = await client.get("/v1/search", params={"q": "number19"}, headers={"lakegate-consistency-token": token})
    assert answer.json()["total"] >= 1


async def test_changes_renames_and_drops_are_followed(client: httpx.AsyncClient, iceberg: str) -> None:
    await client.post(f"{iceberg}/namespaces", json={"namespace": ["travel"]})
    schema = {"type": "struct", "fields": [{"id": 1, "name": "tail_number", "type": "string", "required": False}]}
    made = await client.post(f"{iceberg}/namespaces/travel/tables", json={"name": "planes", "schema": schema})
    token = made.headers["lakegate-consistency-token"]
    assert await names(client, token, "tail") == ["travel.planes"]
    assert await names(client, token, "tail number", kind="table") == ["travel.planes"]
    move = {
        "source": {"namespace": ["travel"], "name": "planes"},
        "destination": {"namespace": ["travel"], "name": "aircraft"},
    }
    token = (await client.post(f"{iceberg}/tables/rename", json=move)).headers["lakegate-consistency-token"]
    assert await names(client, token, "aircraft") == ["travel.aircraft"]
    assert await names(client, token, "planes") == []
    dropped = await client.delete(f"{iceberg}/namespaces/travel/tables/aircraft")
    assert await names(client, dropped.headers["lakegate-consistency-token"], "aircraft") == []


async def test_words_match_by_beginning_with_a_typing_error_and_inside_of_names(
    client: httpx.AsyncClient, add: Add
) -> None:
    await add("warehouse/dailyFlightDelays_2013", columns=("dep_delay", "carrier"), description="Minutes late")
    token = await add("orders", tags=["gold"], owner="ann@example.org")
    for typed in ("flight", "fligth", "delays", "flight-delays", "2013", "daily flight", "carr", "minutes", "DELAYS"):
        assert await names(client, token, typed) == ["warehouse/dailyFlightDelays_2013"], typed
    for typed in ("ordres", "ord", "gold", "ann", "ann@example.org"):
        assert await names(client, token, typed) == ["orders"], typed
    for typed in ("flight orders", "xyz", "fl1ghtx"):
        assert await names(client, token, typed) == [], typed


async def test_a_name_ranks_above_a_column_and_an_exact_word_above_its_beginning(
    client: httpx.AsyncClient, add: Add
) -> None:
    await add("trips", columns=("flight",))
    await add("flights_archive_of_all_airlines")
    token = await add("flight")
    assert await names(client, token, "flight") == ["flight", "flights_archive_of_all_airlines", "trips"]


async def test_filters_narrow_and_facets_count(client: httpx.AsyncClient, add: Add) -> None:
    await add("a1", kind="topic", tags=["gold", "pii"], owner="ann")
    await add("a2", kind="topic", tags=["gold"], owner="bob")
    token = await add("a3", kind="file")
    assert sorted(await names(client, token, kind="topic")) == ["a1", "a2"]
    assert await names(client, token, tag=["gold", "pii"]) == ["a1"]
    assert await names(client, token, owner="bob") == ["a2"]
    answer = (await client.get("/v1/search", params={"consistency_token": token, "facets": "true"})).json()
    assert answer["total"] == 3
    assert answer["facets"] == {
        "kind": {"topic": 2, "file": 1},
        "tag": {"gold": 2, "pii": 1},
        "owner": {"ann": 1, "bob": 1},
    }


async def test_pages_go_on_where_the_last_one_ended(client: httpx.AsyncClient, add: Add) -> None:
    for number in range(5):
        token = await add(f"page{number}")
    found, parameters = [], {"q": "page", "limit": 2, "consistency_token": token}
    while True:
        answer = (await client.get("/v1/search", params=parameters)).json()
        found += [each["name"] for each in answer["items"]]
        if answer["next"] is None:
            break
        parameters["cursor"] = answer["next"]
    assert sorted(found) == [f"page{number}" for number in range(5)]


async def test_a_search_sees_only_the_tenants_and_the_scopes_own(
    client: httpx.AsyncClient, connect: Connect, add: Add
) -> None:
    await add("visible", namespace="kafka-open")
    token = await add("hidden", namespace="kafka-closed")
    assert sorted(await names(client, token)) == ["hidden", "visible"]
    assert await names(connect("datasets:read@kafka-open"), token) == ["visible"]
    assert await names(connect("datasets:read@kafka-o*"), token) == ["visible"]
    assert await names(connect("datasets:read@none.*"), token) == []
    assert await names(connect(of="t-stranger"), token) == []
    assert (await connect("lineage:read").get("/v1/search")).status_code == 403


@pytest.mark.parametrize(
    "q", ['"', "a AND (", "*", "name:x", "\\", "🛩", "' OR 1=1", "-", "a" * 500, " ".join("ab" * 60)]
)
async def test_whatever_is_typed_is_only_words(client: httpx.AsyncClient, q: str) -> None:
    assert (await client.get("/v1/search", params={"q": q})).status_code == 200


@pytest.mark.parametrize(
    ("parameters", "slug"),
    [
        ({"cursor": "x"}, "invalid-cursor"),
        ({"cursor": "1000"}, "invalid-cursor"),
        ({"consistency_token": "abc"}, "invalid-request"),
        ({"limit": "101"}, "invalid-request"),
        ({"query": "x"}, "invalid-request"),
        ({"q": "x" * 501}, "invalid-request"),
    ],
)
async def test_what_is_no_search_is_refused(client: httpx.AsyncClient, parameters: dict[str, str], slug: str) -> None:
    answer = await client.get("/v1/search", params=parameters)
    assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{slug}")
