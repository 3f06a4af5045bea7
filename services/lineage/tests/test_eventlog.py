from __future__ import annotations

from typing import Any
from uuid import uuid4

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Consumer, Event, PermanentFailure, PostgresEventLog, make_event
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import LINEAGE, RunEventObserved

NO_EVENT = {"no": "event"}


async def publish(pool: Any, tenant: str, *numbers: int) -> list[Event]:
    # of a topic of the contracts, yet of a type that the lineage group passes over
    made = [
        make_event(RunEventObserved(event=NO_EVENT | {"number": n}), key="k", tenant=tenant, source="test")
        for n in numbers
    ]
    async with pool.acquire() as connection, connection.transaction():
        await PostgresEventLog(pool).publish(connection, *made)
    return made


async def test_events_are_read_on_from_where_the_page_before_ended(client, pool, tenant) -> None:
    head = (await client.get("/v1/events")).json()["after"]
    made = await publish(pool, tenant, 1, 2, 3)
    await publish(pool, "somebody-else", 4)
    first = (await client.get("/v1/events", params={"after": head, "limit": 2})).json()
    rest = (await client.get("/v1/events", params={"after": first["after"], "limit": 2})).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == [str(event.id) for event in made]
    assert rest["items"][0]["topic"] == LINEAGE
    assert (await client.get("/v1/events", params={"after": rest["after"], "topic": LINEAGE})).json()["items"] == []


async def test_a_group_is_listed_and_replayed_from_a_time(client, pool, tenant) -> None:
    group, seen = f"group-{uuid4()}", []

    async def handle(event: Event) -> None:
        seen.append(event.id)

    log = PostgresEventLog(pool)
    first, second = await publish(pool, tenant, 1), await publish(pool, tenant, 2)
    background = Background()
    background.start(group, Consumer(log, group=group, topics=[LINEAGE], handler=handle, poll_seconds=0.1).run)
    await eventually(lambda: second[0].id in seen)
    listed = (await client.get("/v1/events/groups")).json()
    assert [item["topics"] for item in listed["items"] if item["group"] == group] == [[LINEAGE]]
    answer = await client.post(f"/v1/events/groups/{group}/replay", json={"time": second[0].time.isoformat()})
    assert answer.status_code == 202
    await eventually(lambda: seen.count(second[0].id) == 2)
    await background.stop()
    assert seen.count(first[0].id) == 1
    await log.forget_group(group)


async def test_dead_letters_are_listed_and_handed_out_again(client, client_with, pool, tenant) -> None:
    group, broken = f"group-{uuid4()}", True

    async def handle(event: Event) -> None:
        if broken and event.tenant == tenant:
            raise PermanentFailure("not yet")

    log = PostgresEventLog(pool)
    background = Background()
    consumer = Consumer(log, group=group, topics=[LINEAGE], handler=handle, poll_seconds=0.1)
    background.start(group, consumer.run)
    (event,) = await publish(pool, tenant, 1)

    async def letters() -> list[dict[str, Any]]:
        return (await client.get("/v1/events/dead-letters", params={"group": group})).json()["items"]

    (letter,) = await eventually(letters)
    assert (letter["event"]["id"], letter["reason"]) == (str(event.id), "PermanentFailure: not yet")
    assert (await client_with(tenant="other").get("/v1/events/dead-letters")).json()["items"] == []
    stranger = await client_with(tenant="other").post("/v1/events/dead-letters/replay", json={"group": group})
    assert stranger.json() == {"requested": 0}
    broken = False
    answer = await client.post("/v1/events/dead-letters/replay", json={"group": group, "ids": [letter["id"]]})
    assert answer.json() == {"requested": 1}

    async def gone() -> bool:
        return await letters() == []

    await eventually(gone)
    await background.stop()
    await log.forget_group(group)


async def test_an_unknown_group_and_a_replay_from_nowhere_are_problems(client) -> None:
    answer = await client.post("/v1/events/groups/nobody/replay", json={"position": 0})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/event-group-unknown")
    assert (await client.post("/v1/events/groups/lineage/replay", json={})).status_code == 422


async def test_the_log_is_for_admins(client_with) -> None:
    reader = client_with("lineage:read", "lineage:write")
    for path in ("/v1/events", "/v1/events/groups", "/v1/events/dead-letters"):
        assert (await reader.get(path)).status_code == 403
