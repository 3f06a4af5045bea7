"""A topic that was deleted and made again has the name of the former one, and none of its records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from lakegate_chassis.eventlog.kafka import connections
from lakegate_chassis.testing import eventually


def values(first: int, last: int) -> list[bytes]:
    return [orjson.dumps({"id": number}) for number in range(first, last + 1)]


@pytest.fixture(scope="module", autouse=True)
def quick_to_see_topics() -> Iterator[None]:
    """A worker whose topic is gone looks again for it when its metadata are old."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connections, "METADATA_MS", 500)
        yield


@pytest.fixture
async def make_anew(kafka: Any) -> AsyncIterator[Any]:
    """make_anew(topic): deletes it and makes it again, with as many partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()

    async def again(topic: str) -> None:
        (described,) = await admin.describe_topics([topic])
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await eventually(gone, within_seconds=30)
        await admin.create_topics([NewTopic(topic, len(described["partitions"]), 1)])

    yield again
    await admin.close()


async def failed(streams: Any, table: str) -> dict[str, Any]:
    async def look() -> Any:
        return (await streams.api.client.get(streams.path(table))).json().get("failure")

    found: dict[str, Any] = await eventually(look, within_seconds=60)
    return found


@pytest.mark.parametrize("again", [3, 30])
async def test_rows_of_a_topic_that_was_made_anew_are_not_skipped(
    streams: Any, direct: Any, make_anew: Any, again: int
) -> None:
    """Fewer records than the table has of the former one, and more."""
    table = f"anew.t{again}"
    topic = (await streams.send(table, b'{"id": 1}')).json()["topic"]
    await direct(topic, *values(2, 10), partition=0)
    await streams.has(table, list(range(1, 11)))
    before = (await streams.api.client.get(streams.path(table))).json()

    await make_anew(topic)
    await direct(topic, *values(101, 100 + again), partition=0)
    failure = await failed(streams, table)
    assert failure["type"] == "/problems/stream-topic-recreated"
    assert failure["committed_topic_id"] == before["topic_id"]
    assert await streams.committed(table) == 10

    client = streams.api.client
    other = await client.put(streams.path(table), json={"accept_topic_id": before["topic_id"]})
    assert (other.status_code, other.json()["topic_id"]) == (409, failure["topic_id"])
    accepted = await client.put(streams.path(table), json={"accept_topic_id": failure["topic_id"]})
    assert accepted.status_code == 200, accepted.text
    await streams.has(table, [*range(1, 11), *range(101, 101 + again)])
    await direct(topic, *values(201, 203), partition=0)
    await streams.has(table, [*range(1, 11), *range(101, 101 + again), *range(201, 204)])
    assert (await client.get(streams.path(table))).json()["failure"] is None
