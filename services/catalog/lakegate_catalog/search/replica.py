"""The search replica of this process: follows the change feed, and says when it has seen a given write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram
from pydantic import ValidationError

from lakegate_catalog.datasets.state import read, wire
from lakegate_catalog.errors import SearchBehind
from lakegate_catalog.search.index import Entry, SearchIndex
from lakegate_catalog.store.port import CatalogStore, Change, Space
from lakegate_chassis.eventlog import Event, EventLog
from lakegate_chassis.logs import log
from lakegate_contracts.events import DATASETS, DatasetChanged

# Ten batches a second are the most, so a page must hold what a busy second brings.
PAGE = 2000
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")
UNREADABLE = Counter("lakegate_catalog_search_unreadable_total", "Datasets left out since their state can't be read")
POSITION = Gauge("lakegate_catalog_search_position", "Position of the event log that the search index has applied")
APPLY_SECONDS = Histogram("lakegate_catalog_search_apply_seconds", "Time to make a batch of changes searchable")


class SearchReplica:
    """Run it under Background. Every process has its own and reads every event, outside the consumer groups."""

    def __init__(self, index: SearchIndex, store: CatalogStore, event_log: EventLog, interval_seconds: float) -> None:
        self.index = index
        self._store = store
        self._log = event_log
        self._interval = interval_seconds
        self._moved = asyncio.Condition()
        self._checked = False

    @property
    def position(self) -> int | None:
        """What is applied; None while the index is being checked or built."""
        return self.index.position if self._checked else None

    async def run(self) -> None:
        """Build the index if need be, then follow until cancelled."""
        self._checked = False
        after = await self._start()
        self._checked = True
        await self._announce()
        loop = asyncio.get_running_loop()
        async for events in self._log.read([DATASETS], after, PAGE):
            started = loop.time()
            with APPLY_SECONDS.time():
                entries = _readable(_entry, events)
                await asyncio.to_thread(self.index.apply, entries, events[-1].at)
            await self._announce()
            if len(events) < PAGE:
                # what arrives meanwhile shares the next commit: commits cost more than documents
                await asyncio.sleep(max(0.0, started + self._interval - loop.time()))

    async def reach(self, position: int, within_seconds: float) -> None:
        """Return once every change up to `position` is searchable. Raises SearchBehind."""
        try:
            async with asyncio.timeout(within_seconds):
                while True:
                    known = self.position
                    if await self._covers(position):
                        return
                    async with self._moved:
                        # it may have moved while the log was asked
                        if self.position == known:
                            await self._moved.wait()
        except TimeoutError as error:
            raise SearchBehind(
                f"The search index is at {self.position or 0}, your token asks for {position}. Try again shortly, "
                "or leave the token out to search what is there."
            ) from error

    async def _covers(self, position: int) -> bool:
        """Whether nothing of ours is left up to there: the log's positions count other topics' events too."""
        applied = self.position
        if applied is None:
            return False
        if applied >= position:
            return True
        if position > await self._log.head():
            return False  # no token of this log: it can only be waited for
        async for events in self._log.read([DATASETS], applied, 1, follow=False):
            return events[0].at > position
        return True

    async def _start(self) -> int:
        """Where to go on: where the index is, if the log still holds everything after it; else build it anew."""
        await asyncio.to_thread(self.index.recover)
        known = self.index.position
        if known is not None:
            oldest, head = await self._log.position_before(BEGINNING), await self._log.head()
            if oldest <= known <= head:
                return known
            log.warning("search_index_outdated", position=known, oldest=oldest, head=head)
        return await self._build()

    async def _build(self) -> int:
        # changes that come while the store is read are read again from the log; the highest version wins
        head = await self._log.head()
        await asyncio.to_thread(self.index.wipe)
        count = 0
        async for changes in self._store.everything(Space.DATASET, batch=PAGE):
            entries = _readable(_entry_of, changes)
            await asyncio.to_thread(self.index.apply, entries, None)
            count += len(entries)
        await asyncio.to_thread(self.index.apply, [], head)
        log.info("search_index_built", datasets=count, position=head)
        return head

    async def _announce(self) -> None:
        POSITION.set(self.position or 0)
        async with self._moved:
            self._moved.notify_all()


def _readable(make: Callable[[T], Entry], found: Sequence[T]) -> list[Entry]:
    """What can be read: a state written by a later release must not keep all others from being found."""
    entries = []
    for each in found:
        try:
            entries.append(make(each))
        except (ValidationError, KeyError) as error:
            UNREADABLE.inc()
            log.error("dataset_unreadable", of=repr(each)[:300], reason=str(error)[:300])
    return entries


def _entry(event: Event) -> Entry:
    change = DatasetChanged.model_validate(event.data)
    dataset = change.dataset
    area = ""
    if dataset is not None:
        is_table = dataset["kind"] == "table"
        area = change.name.rpartition(".")[0] if is_table else change.namespace
    return Entry(event.tenant, str(change.dataset_id), change.version, area, dataset)


def _entry_of(change: Change) -> Entry:
    state = read(change)
    return Entry(change.tenant, str(change.entity_id), change.sequence, state.area, wire(state, change.sequence))
