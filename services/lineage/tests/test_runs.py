"""GET /v1/runs, /v1/runs/{id}, /v1/jobs and /v1/jobs/{id}."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from lakegate_lineage import pages

Client = httpx.AsyncClient


def encoded(position: list[str]) -> str:
    return urlsafe_b64encode(json.dumps(position).encode()).rstrip(b"=").decode()


async def send(client: Client, kind: str | None, second: int, run_id: str, job: Any = "J", **changes: Any) -> None:
    event: dict[str, Any] = {
        "eventTime": f"2026-03-01T12:00:{second:02}Z",
        "producer": "https://producer.example/1",
        "run": {"runId": run_id, "facets": changes.pop("facets", {})},
        "job": {"namespace": "etl", "name": job} if isinstance(job, str) else job,
    }
    if kind:
        event["eventType"] = kind
    answer = await client.post("/api/v1/lineage", json=event | changes)
    assert answer.status_code == 201, answer.text


async def run(client: Client, run_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/runs/{run_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("events", "state", "started", "ended"),
    [
        ([(None, 5)], "new", None, None),
        ([("OTHER", 5)], "new", None, None),
        ([("START", 5)], "running", 5, None),
        ([("START", 5), ("RUNNING", 6)], "running", 5, None),
        ([("START", 5), ("COMPLETE", 9)], "completed", 5, 9),
        ([("START", 5), ("COMPLETE", 9), ("OTHER", 12)], "completed", 5, 9),
        ([("START", 5), ("FAIL", 7), ("RUNNING", 9)], "failed", 5, 7),
        ([("START", 9), ("ABORT", 5)], "aborted", 9, 5),
        ([("START", 5), ("FAIL", 7), ("COMPLETE", 9)], "completed", 5, 9),
        ([("COMPLETE", 9), ("FAIL", 9)], "failed", None, 9),
    ],
)
async def test_the_state_of_a_run_does_not_depend_on_the_order(
    client: Client, events: list[tuple[str | None, int]], state: str, started: int | None, ended: int | None
) -> None:
    def at(second: int | None) -> str | None:
        return None if second is None else f"2026-03-01T12:00:{second:02}Z"

    for order in permutations(events):
        run_id = str(uuid4())
        for kind, second in order:
            await send(client, kind, second, run_id)
        found = await run(client, run_id)
        assert (found["state"], found["started_at"], found["ended_at"]) == (state, at(started), at(ended))
        expected = max(ended - started, 0) if ended and started else None
        assert found["duration_seconds"] == expected


async def test_a_run_tells_what_its_events_said(client: Client) -> None:
    run_id, parent = str(uuid4()), str(uuid4())
    facets: dict[str, Any] = {
        "parent": {"run": {"runId": parent}, "job": {"namespace": "etl", "name": "dag"}},
        "errorMessage": {"message": "no space left", "programmingLanguage": "PYTHON"},
    }
    rows = {"outputStatistics": {"rowCount": 336_776}}
    outputs = [{"namespace": "db", "name": "out", "outputFacets": rows, "facets": {"version": {"datasetVersion": "7"}}}]
    await send(client, "FAIL", 9, run_id, facets=facets, outputs=outputs)
    await send(client, "START", 1, run_id, facets={"mine": {"a": 1}}, inputs=[{"namespace": "db", "name": "in"}])
    found = await run(client, run_id)
    assert (found["parent_id"], found["error"]) == (parent, "no space left")
    assert found["facets"]["mine"] == {"a": 1}
    assert found["inputs"] == [{"namespace": "db", "name": "in", "facets": {}}]
    assert found["outputs"][0]["facets"]["outputStatistics"] == {"rowCount": 336_776}
    assert [event["type"] for event in found["events"]] == ["START", "FAIL"]


async def test_an_unknown_run_is_a_problem(client: Client) -> None:
    answer = await client.get(f"/v1/runs/{uuid4()}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/run-unknown")
    assert (await client.get("/v1/runs/7")).status_code == 422


async def test_runs_are_listed_newest_first_in_pages(client: Client) -> None:
    ids = [str(uuid4()) for _ in range(7)]
    for second, run_id in enumerate(ids):
        await send(client, "START", second, run_id, job="odd" if second % 2 else "even")
    seen: list[str] = []
    following: str | None = "/v1/runs?limit=3"
    pages = 0
    while following:
        page = (await client.get(following)).json()
        seen += [item["id"] for item in page["items"]]
        following = page["next"]
        pages += 1
    assert (seen, pages) == (ids[::-1], 3)
    odd = (await client.get("/v1/runs", params={"job_namespace": "etl", "job_name": "odd"})).json()
    assert [item["id"] for item in odd["items"]] == [ids[5], ids[3], ids[1]]
    await send(client, "FAIL", 30, ids[2])
    failed = (await client.get("/v1/runs", params={"state": "failed"})).json()
    assert [item["id"] for item in failed["items"]] == [ids[2]]


async def test_jobs_are_listed_by_name_in_pages(client: Client) -> None:
    for name in ("b", "a", "d", "c", "e"):
        await send(client, "START", 1, str(uuid4()), job=name)
    seen: list[str] = []
    following: str | None = "/v1/jobs?limit=2"
    while following:
        page = (await client.get(following)).json()
        seen += [item["name"] for item in page["items"]]
        following = page["next"]
    assert seen == ["a", "b", "c", "d", "e"]
    page = (await client.get("/v1/jobs", params={"namespace": "etl", "limit": 2})).json()
    page = (await client.get(page["next"])).json()
    assert [item["name"] for item in page["items"]] == ["c", "d"]
    assert (await client.get("/v1/jobs", params={"namespace": "none"})).json() == {"items": [], "next": None}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/runs"])
async def test_a_cursor_names_nothing_that_is_not_shown(
    client: Client, client_with: Any, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(pages, "_LOOKED_AT_AGAIN", 2)
    names = ["a1", "a2", "seen1", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "seen2", "z1", "z2", "z3"]
    for second, name in enumerate(names):
        job = {"namespace": "other" if "seen" in name else "etl", "name": name}
        if path == "/v1/jobs":
            job["namespace"] = f"{second:02}{job['namespace']}"
        await send(client, "START", second, str(uuid4()), job=job)
    reader = client_with("lineage:read@*other")
    for limit in (1, 2, 3, 50):
        found: list[str] = []
        following: str | None = f"{path}?limit={limit}"
        while following:
            page = (await reader.get(following)).json()
            found += [(item if path == "/v1/jobs" else item["job"])["name"] for item in page["items"]]
            following = page["next"]
            if following:
                cursor = following.partition("cursor=")[2]
                told = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
                assert path == "/v1/runs" or told[1] == (found[-1] if found else ""), told
        assert sorted(found) == ["seen1", "seen2"]


async def test_the_page_after_a_job_with_an_awkward_name_is_found(client: Client) -> None:
    names = ["\x01" * 1900, "\x02é" * 600, "z"]
    for name in names:
        await send(client, "START", 1, str(uuid4()), job=name)
    seen: list[str] = []
    following: str | None = "/v1/jobs?limit=1"
    while following:
        page = (await client.get(following)).json()
        seen += [item["name"] for item in page["items"]]
        following = page["next"]
    assert seen == names
    assert (await client.get("/v1/jobs", params={"namespace": "\0"})).status_code == 422


async def test_a_job_is_found_by_name_and_shown_by_id(client: Client) -> None:
    await send(
        client, "COMPLETE", 1, str(uuid4()),
        job="a/b:c%d", inputs=[{"namespace": "db", "name": "in"}], outputs=[{"namespace": "db", "name": "out"}],
    )  # fmt: skip
    found = (await client.get("/v1/jobs", params={"namespace": "etl", "name": "a/b:c%d"})).json()["items"]
    assert [item["last_run"]["state"] for item in found] == ["completed"]
    detail = (await client.get(f"/v1/jobs/{found[0]['id']}")).json()
    assert detail["inputs"] == [{"namespace": "db", "name": "in"}]
    assert detail["outputs"] == [{"namespace": "db", "name": "out"}]
    answer = await client.get(f"/v1/jobs/{uuid4()}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/lineage-job-unknown")


FOREIGN = ("x", "!!!", "W10", "bnVsbA", encoded(["a", "\0"]))
WITHOUT_OFFSET = encoded(["2026-03-01T00:00:00", str(UUID(int=0))])


@pytest.mark.parametrize(
    ("path", "cursor"),
    [(path, cursor) for path in ("/v1/runs", "/v1/jobs") for cursor in FOREIGN] + [("/v1/runs", WITHOUT_OFFSET)],
)
async def test_a_cursor_that_is_not_ours_is_a_problem(client: Client, path: str, cursor: str) -> None:
    answer = await client.get(path, params={"cursor": cursor})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "?cursor")


async def test_runs_and_jobs_outside_of_the_scope_are_left_out(client: Client, client_with: Any) -> None:
    hidden = str(uuid4())
    await send(client, "START", 1, hidden)
    reader = client_with("lineage:read@other")
    assert (await reader.get("/v1/runs")).json()["items"] == []
    assert (await reader.get("/v1/jobs")).json()["items"] == []
    assert (await reader.get(f"/v1/runs/{hidden}")).status_code == 403
    await send(client, "START", 1, str(uuid4()), job="J2")
    assert (await reader.get("/v1/jobs", params={"namespace": "etl"})).json()["items"] == []
    detail = (await client.get("/v1/jobs")).json()["items"][0]["id"]
    assert (await reader.get(f"/v1/jobs/{detail}")).status_code == 403


async def test_datasets_outside_of_the_scope_are_left_out_of_a_run_and_a_job(client: Client, client_with: Any) -> None:
    run_id = str(uuid4())
    inputs = [{"namespace": "db", "name": "a"}, {"namespace": "secret", "name": "b"}]
    await send(client, "COMPLETE", 1, run_id, inputs=inputs)
    reader = client_with("lineage:read@etl", "lineage:read@db")
    job_id = (await reader.get("/v1/jobs")).json()["items"][0]["id"]
    for path in (f"/v1/runs/{run_id}", f"/v1/jobs/{job_id}"):
        assert [item["name"] for item in (await reader.get(path)).json()["inputs"]] == ["a"]


async def test_a_load_of_ours_is_seen_with_the_scope_of_its_table(
    client: Client, client_with: Any, tenant: str
) -> None:
    run_id, ours = str(uuid4()), f"lakegate://{tenant}"
    job = {"namespace": ours, "name": "load.travel.flights"}
    await send(client, "COMPLETE", 1, run_id, job=job, outputs=[{"namespace": ours, "name": "travel.flights"}])
    reader = client_with("lineage:read@travel")
    assert [item["id"] for item in (await reader.get("/v1/runs")).json()["items"]] == [run_id]
    params = {"namespace": ours, "name": "travel.flights"}
    graph = (await reader.get("/v1/lineage/graph", params=params)).json()
    assert [node["name"] for node in graph["nodes"]] == ["travel.flights", "load.travel.flights"]
    assert (await client_with("lineage:read@shop").get("/v1/lineage/graph", params=params)).status_code == 403
