"""Where a table and its files may be, and that nobody gets to those of another."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx

from .conftest import SCHEMA, Create, error, snapshot


async def test_a_place_in_another_namespace_is_refused_however_it_is_asked_for(
    client: httpx.AsyncClient, iceberg: str, travel: str, create: Create, warehouse: Path, tenant: str
) -> None:
    """A key for one namespace gets keys for the files of its tables: they may not be another's."""
    await client.post(f"{iceberg}/namespaces", json={"namespace": ["other"]})
    other = f"{iceberg}/namespaces/other/tables"
    created = await create()
    victim = created["metadata"]["location"]
    folder = f"file://{warehouse}/{tenant}"
    for place in (victim, f"{folder}/travel", f"{folder}/other", f"{folder}/other/t", f"{victim}/data-{uuid4()}"):
        body = {"name": "t", "schema": SCHEMA, "location": place}
        for staged in (False, True):
            answer = await client.post(other, json={**body, "stage-create": staged})
            assert error(answer) == (400, "BadRequestException"), place
        moved = {"requirements": [], "updates": [{"action": "set-location", "location": place}]}
        if place != victim:
            assert error(await client.post(f"{travel}/tables/flights", json=moved)) == (400, "BadRequestException")
    mine = await client.post(other, json={"name": "mine", "schema": SCHEMA})
    assert mine.status_code == 200
    moved = {"requirements": [], "updates": [{"action": "set-location", "location": victim}]}
    assert error(await client.post(f"{other}/mine", json=moved)) == (400, "BadRequestException")
    register = {"name": "again", "metadata-location": created["metadata-location"]}
    answer = await client.post(f"{iceberg}/namespaces/other/register", json=register)
    assert error(answer) == (400, "BadRequestException")


async def test_namespaces_that_are_alike_have_folders_of_their_own(
    client: httpx.AsyncClient, iceberg: str, warehouse: Path, tenant: str
) -> None:
    folders, places = set(), []
    for namespace in ("sales_eu", "sales!eu", "sales?eu", "sales eu"):
        await client.post(f"{iceberg}/namespaces", json={"namespace": [namespace]})
        tables = f"{iceberg}/namespaces/{quote(namespace, safe='')}/tables"
        made = await client.post(tables, json={"name": "t", "schema": SCHEMA})
        assert made.status_code == 200, made.text
        places.append(made.json()["metadata"]["location"])
        folders.add(places[-1].rpartition("/")[0])
        for place in places[:-1]:
            taken = await client.post(tables, json={"name": "u", "schema": SCHEMA, "location": place})
            assert error(taken) == (400, "BadRequestException"), place
    assert len(folders) == 4
    assert f"file://{warehouse}/{tenant}/sales_eu" in folders


async def test_a_table_stays_where_it_is(client: httpx.AsyncClient, travel: str, create: Create) -> None:
    """Its files can't be moved with it, and nothing outside of its location is read."""
    location = (await create())["metadata"]["location"]
    moved = {"requirements": [], "updates": [{"action": "set-location", "location": f"{location[:-36]}{uuid4()}"}]}
    answer = await client.post(f"{travel}/tables/flights", json=moved)
    assert error(answer) == (400, "BadRequestException")
    assert "stays at" in answer.json()["error"]["message"]
    same = {"requirements": [], "updates": [{"action": "set-location", "location": location}]}
    assert (await client.post(f"{travel}/tables/flights", json=same)).status_code == 200


async def test_a_snapshot_or_statistics_out_of_the_tables_folder_is_refused(
    client: httpx.AsyncClient, travel: str, create: Create, warehouse: Path, tenant: str
) -> None:
    created, other = await create(), await create("other")
    at = created["metadata"]["location"]
    for place in (
        "file:///nowhere", f"{warehouse}/{tenant}/x", f"file://{warehouse}/another/x", f"{at}/../x", f"{at}/%2e%2e/x",
        other["metadata"]["location"], f"file://{warehouse}/{tenant}/_quarantine/x", f"{at}-x",
    ):  # fmt: skip
        answer = await client.post(f"{travel}/tables/flights", json=snapshot(place, 11, 1))
        assert error(answer) == (400, "BadRequestException"), place
        copy = Path(created["metadata-location"].removeprefix("file://")).with_name("copy.metadata.json")
        added = snapshot(place, 11, 1)["updates"][0]["snapshot"]
        copy.write_text(json.dumps({**created["metadata"], "snapshots": [added], "last-sequence-number": 1}))
        location = f"{at}/metadata/copy.metadata.json"
        answer = await client.post(f"{travel}/register", json={"name": "again", "metadata-location": location})
        assert error(answer) == (400, "BadRequestException"), place
        copy.unlink()
    statistics = {
        "snapshot-id": 11, "statistics-path": "file:///etc/passwd", "file-size-in-bytes": 1,
        "file-footer-size-in-bytes": 1, "blob-metadata": [],
    }  # fmt: skip
    body = snapshot(at, 11, 1)
    body["updates"].append({"action": "set-statistics", "snapshot-id": 11, "statistics": statistics})
    assert error(await client.post(f"{travel}/tables/flights", json=body)) == (400, "BadRequestException")


async def test_the_folder_of_rejected_rows_is_no_namespace(client: httpx.AsyncClient, iceberg: str) -> None:
    for levels in (["_quarantine"], ["_quarantine", "x"]):
        answer = await client.post(f"{iceberg}/namespaces", json={"namespace": levels})
        assert error(answer) == (400, "BadRequestException")
