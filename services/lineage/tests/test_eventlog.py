from __future__ import annotations

import socket
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Consumer, Event, PermanentFailure, PostgresEventLog, make_event
from lakegate_chassis.eventlog.kafka import KafkaEventLog
from lakegate_chassis.eventlog.kafka.connections import Connections
from lakegate_chassis.eventlog.kafka.groups import Groups
from lakegate_chassis.eventlog.kafka.topics import Topics
from lakegate_chassis.settings import KafkaSettings
from lakegate_chassis.testing import eventually, serving
from lakegate_contracts.events import LINEAGE, RunEventObserved
from lakegate_lineage.app import create_app

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


@pytest.fixture
def operator(client_with) -> httpx.AsyncClient:
    """An admin of the tenant that runs the installation."""
    return client_with(tenant="default")


async def test_a_group_is_listed_and_replayed_from_a_time(client, operator, pool, tenant) -> None:
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
    path, since = f"/v1/events/groups/{group}/replay", {"time": second[0].time.isoformat()}
    refused = await client.post(path, json=since)
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
    answer = await operator.post(path, json=since)
    assert answer.status_code == 202
    await eventually(lambda: seen.count(second[0].id) == 2)
    forbidden = await client.delete(f"/v1/events/groups/{group}")
    assert (forbidden.status_code, forbidden.json()["type"]) == (403, "/problems/forbidden")
    in_use = await operator.delete(f"/v1/events/groups/{group}")
    assert (in_use.status_code, in_use.json()["type"]) == (409, "/problems/event-group-in-use")
    await background.stop()
    assert seen.count(first[0].id) == 1
    assert (await operator.delete(f"/v1/events/groups/{group}")).status_code == 204
    assert group not in [item["group"] for item in (await client.get("/v1/events/groups")).json()["items"]]


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


async def test_an_unknown_group_and_a_replay_from_nowhere_are_problems(client, operator) -> None:
    for answer in (
        await operator.post("/v1/events/groups/nobody/replay", json={"position": 0}),
        await client.post("/v1/events/dead-letters/replay", json={"group": "nobody"}),
        await operator.delete("/v1/events/groups/nobody"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/event-group-unknown")
    assert (await operator.post("/v1/events/groups/lineage/replay", json={})).status_code == 422


async def test_a_group_does_not_go_on_after_what_the_log_has_not_reached(operator) -> None:
    head = (await operator.get("/v1/events/groups")).json()["head"]
    for beyond in (head + 1_000_000, 10**30):
        answer = await operator.post("/v1/events/groups/lineage/replay", json={"position": beyond})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
        assert answer.json()["errors"][0]["pointer"] == "/position"
    answer = await operator.post("/v1/events/groups/lineage/replay", json={"time": "2999-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/time")
    for group in (await operator.get("/v1/events/groups")).json()["items"]:
        assert group["position"] < head + 1_000_000


async def test_what_is_no_event_of_ours_is_shown_to_the_operator_and_stays(client, operator, pool, kafka) -> None:
    topic, group = f"topic-{uuid4()}", f"group-{uuid4()}"
    settings = KafkaSettings(bootstrap=kafka.bootstrap, session_seconds=6)
    log = KafkaEventLog(pool, settings)
    await Topics(Connections(settings)).ensure([topic])
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        sent = await producer.send_and_wait(topic, b"\xff no event", key=b"a\0b")
    handed: list[str] = []

    async def handle(event: Event) -> None:
        handed.append(event.type)

    async def letters(by: httpx.AsyncClient) -> list[dict[str, Any]]:
        return (await by.get("/v1/events/dead-letters", params={"group": group})).json()["items"]

    background = Background()
    background.start(group, Consumer(log, group=group, topics=[topic], handler=handle, poll_seconds=0.2).run)
    (letter,) = await eventually(lambda: letters(operator))
    assert letter["reason"].startswith("not a CloudEvent of ours")
    assert (letter["event"]["data"]["partition"], letter["event"]["data"]["offset"]) == (sent.partition, sent.offset)
    assert await letters(client) == []
    theirs = await client.post("/v1/events/dead-letters/replay", json={"group": group})
    assert theirs.json() == {"requested": 0}
    assert handed == []
    ours = await operator.post("/v1/events/dead-letters/replay", json={"group": group})
    assert ours.json() == {"requested": 1}

    async def looked_at() -> dict[str, Any] | None:
        (again,) = await letters(operator)
        return again if again["attempts"] > letter["attempts"] else None

    assert (await eventually(looked_at))["reason"] == letter["reason"]
    assert handed == []
    await background.stop()
    await log.forget_group(group)


async def test_groups_whose_kafka_is_away_are_a_problem_that_says_so(settings, pool, token) -> None:
    group = f"group-{uuid4()}"
    with socket.socket() as nobody:
        # bound and not listening: connections are refused, and nobody else takes the port
        nobody.bind(("127.0.0.1", 0))
        away = KafkaSettings(bootstrap=f"127.0.0.1:{nobody.getsockname()[1]}", request_seconds=1)
        await Groups(pool).enter(group, [LINEAGE], 0)
        async with (
            serving(create_app(settings.model_copy(update={"kafka": away}))) as url,
            httpx.AsyncClient(
                base_url=url, headers={"Authorization": f"Bearer {token(tenant='default')}"}, timeout=30
            ) as client,
        ):
            answers = [await client.get("/v1/events/groups"), await client.delete(f"/v1/events/groups/{group}")]
    assert await Groups(pool).forget(group)
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert answer.headers["retry-after"] == "5"
        assert "Kafka" in answer.json()["detail"]


async def test_the_log_is_for_admins(client_with) -> None:
    reader = client_with("lineage:read", "lineage:write")
    for path in ("/v1/events", "/v1/events/groups", "/v1/events/dead-letters"):
        assert (await reader.get(path)).status_code == 403
