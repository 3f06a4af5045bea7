from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_chassis.background import Background
from lakegate_chassis.eventlog import Consumer, Event, PostgresEventLog, make_event
from lakegate_chassis.postgres import open_pool
from lakegate_chassis.provision import provision
from lakegate_chassis.settings import PostgresSettings
from lakegate_chassis.testing import eventually
from lakegate_contracts.events import LINEAGE, RunEventObserved


async def test_a_consumer_goes_on_when_the_server_was_killed_and_came_back(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg")
    try:
        urls = await provision(server.start(), {"lineage": "secret"})
        pool = await open_pool(PostgresSettings(url=SecretStr(urls["lineage"])), "lineage")
        log = PostgresEventLog(pool)
        seen: list[int] = []

        async def handle(event: Event) -> None:
            seen.append(event.data["event"]["number"])

        async def publish(number: int) -> None:
            event = make_event(RunEventObserved(event={"number": number}), key="k", tenant="t", source="test")
            async with pool.acquire() as connection, connection.transaction():
                await log.publish(connection, event)

        background = Background()
        background.start("consumer", Consumer(log, group="g", topics=[LINEAGE], handler=handle).run)
        await publish(1)
        await eventually(lambda: seen == [1])
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        server.start()
        # The pool has not noticed yet: a request would be answered 503 and repeated.
        await pool.expire_connections()
        await publish(2)
        await eventually(lambda: seen[-1] == 2)
        await background.stop()
        await pool.close()
    finally:
        server.stop()
    assert set(seen) == {1, 2}
