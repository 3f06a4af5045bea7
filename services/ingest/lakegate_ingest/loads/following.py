"""Progress of a load as server-sent events (WHATWG HTML, 9.2): bounded in number and time, ended by the load's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import orjson

from lakegate_chassis.health import Health
from lakegate_contracts.identity import Principal
from lakegate_ingest.loads.queries import ENDED, LoadRow
from lakegate_ingest.loads.service import LoadService
from lakegate_ingest.metrics import PROGRESS_STREAMS
from lakegate_ingest.places import Places
from lakegate_ingest.settings import JobSettings

LOOK_SECONDS = 0.25
# A load that another replica runs is looked up in the database, so less often.
REMOTE_LOOK_SECONDS = 1.0


class Followers:
    """Bounded in number."""

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._places = Places(
            settings.sse_max_clients,
            settings.sse_max_clients_per_tenant,
            PROGRESS_STREAMS,
            kind="progress streams",
            hint=" Or poll GET /v1/loads/{id}.",
        )

    async def follow(
        self, service: LoadService, principal: Principal, load: LoadRow, health: Health
    ) -> AsyncIterator[bytes]:
        """Events `progress` while the load goes on, then one `completed` or `failed`; comments keep the line warm.

        Raises TooManyStreams.
        """
        return await self._places.begun(principal.tenant, self._events(service, principal, load, health))

    async def _events(
        self, service: LoadService, principal: Principal, load: LoadRow, health: Health
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.sse_max_seconds
        spoken = loop.time()
        last = b""
        while load.state not in ENDED:
            live = service.live(load.load_id)
            state = live.state if live is not None else load.state.value
            now = orjson.dumps({"state": state, **service.describe(load).progress.model_dump()})
            if now != last:
                last, spoken = now, loop.time()
                yield b"event: progress\ndata: " + now + b"\n\n"
            elif loop.time() - spoken > self._settings.sse_heartbeat_seconds:
                spoken = loop.time()
                yield b": still here\n\n"
            if loop.time() > until or health.draining.is_set():
                yield b"retry: 1000\n\n"  # the client connects again, to whoever is there then
                return
            if live is not None:
                try:
                    await asyncio.wait_for(live.ended.wait(), LOOK_SECONDS)
                except TimeoutError:
                    continue
            else:
                await asyncio.sleep(REMOTE_LOOK_SECONDS)
            load = await service.row(principal, load.load_id)
        body = load.receipt.model_dump_json().encode() if load.receipt else orjson.dumps(load.problem)
        yield b"event: " + load.state.value.encode() + b"\ndata: " + body + b"\n\n"
