"""A stream keeps the topic that it was made with, by whatever rule an older release has named it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import NewTopic

from lakegate_chassis.problems import Unavailable
from lakegate_chassis.testing import eventually
from lakegate_ingest.streams.repeats import Repeats

TABLE = "older.my_t"
KEY = {"idempotency-key": "order-17"}


@pytest.fixture
async def postgres(database: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.admin_url)
    yield connection
    await connection.close()


async def test_a_stream_whose_topic_is_named_by_an_older_rule_goes_on_there_and_has_no_other(
    streams_at: Any,
    producing_url: str,
    admin: Any,
    postgres: asyncpg.Connection,
    forgotten: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = streams_at(producing_url)
    client = streams.api.client
    ours = (await streams.send(TABLE, b'{"id": 1}')).json()["topic"]
    older = f"lakegate.stream.{streams.tenant}.{TABLE}"
    assert ours != older
    await admin.delete_topics([ours, f"{ours}-dlq"])

    async def gone() -> bool:
        return not {ours, f"{ours}-dlq"} & set(await admin.list_topics())

    await eventually(gone)
    await admin.create_topics([NewTopic(older, 3, 1), NewTopic(f"{older}-dlq", 1, 1)])
    for rows in ("streams", "stream_topics"):
        await postgres.execute(f"UPDATE ingest.{rows} SET topic = $1 WHERE topic = $2", older, ours)

    async def told() -> Any:
        return (await client.get(streams.path(TABLE))).json()["topic_id"]

    topic_id = await eventually(told)
    accepted = await client.put(streams.path(TABLE), json={"accept_topic_id": topic_id})
    assert (accepted.status_code, accepted.json().get("topic")) == (200, older), accepted.text

    async def away(*_: Any) -> None:
        raise Unavailable("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(Repeats, "_complete", away)
        first = await streams.send(TABLE, b'{"id": 2}', headers=KEY)
    assert (first.status_code, first.json()["topic"]) == (202, older), first.text
    await postgres.execute("UPDATE ingest.stream_requests SET lease_until = now() WHERE tenant = $1", streams.tenant)
    again = await streams.send(TABLE, b'{"id": 2}', headers=KEY)
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (202, "true"), again.text
    assert again.json()["offsets"] == first.json()["offsets"]

    await streams.drop(TABLE)
    anew = await streams.send(TABLE, b'{"id": 3}')
    assert (anew.status_code, anew.json()["topic"]) == (202, older), anew.text
    assert not {ours, f"{ours}-dlq"} & set(await admin.list_topics())
    found = await postgres.fetch("SELECT topic FROM ingest.stream_topics WHERE tenant = $1", streams.tenant)
    assert [row["topic"] for row in found] == [older]
