"""The catalog store on MongoDB: the one module that knows motor, and the one in which tenants are kept apart.

Each method is one document's insert, delete or unset, or a read; nothing needs a transaction. A compare-and-set is
the insert of the next sequence: of two with the same `_id` the server refuses one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from lakegate_catalog.settings import MongoSettings
from lakegate_catalog.store.areas import parents_in
from lakegate_catalog.store.mongodb.documents import (
    Document,
    Waiting,
    beginning_with,
    change_id,
    change_ids,
    claim_id,
    entity_key,
    from_change,
    from_claim,
    to_change,
    to_claim,
    to_waiting,
)
from lakegate_catalog.store.mongodb.errors import translated
from lakegate_catalog.store.mongodb.relay import Outbox, Relay
from lakegate_catalog.store.port import EVERY_TENANT, SOURCE, CatalogStore, Change, Claim, Name, SequenceTaken, Space
from lakegate_chassis.eventlog import make_event
from lakegate_chassis.logs import log
from lakegate_chassis.problems import Unavailable

OLDEST_VERSION = (5, 0)  # the first that takes any name of a field, dots and dollars too
CONNECT_SECONDS = 2.0
CLAIM_ATTEMPTS = 5
SMALLEST_PAGE = 16

# Sparse: only documents that have the field are in the index, which are few. All would be right without that.
CHANGE_INDEXES = (
    IndexModel([("latest_of", ASCENDING)], name="latest_of", sparse=True),
    IndexModel([("outbox.entity", ASCENDING)], name="outbox_entity", sparse=True),
    IndexModel([("outbox.since", ASCENDING)], name="outbox_since", sparse=True),
)
CLAIM_INDEXES = (
    IndexModel([("space", ASCENDING), ("tenant", ASCENDING), ("key", ASCENDING)], name="space_tenant_key"),
    IndexModel(
        [("tenant", ASCENDING), ("space", ASCENDING), ("parent", ASCENDING), ("key", ASCENDING)],
        name="tenant_space_parent_key",
    ),
)
# An answer to a caller never carries an event: it may be as large as the state.
NO_OUTBOX = {"outbox": False}


@dataclass(frozen=True)
class Collections:
    changes: AsyncIOMotorCollection[Document]
    claims: AsyncIOMotorCollection[Document]

    async def ping(self) -> None:
        """A readiness check. Raises ConnectionError."""
        try:
            await self.changes.database.command("ping")
        except PyMongoError as error:
            raise ConnectionError(type(error).__name__) from error


@asynccontextmanager
async def open_mongodb(settings: MongoSettings) -> AsyncIterator[Collections]:
    """Connect, check the server, and make the indexes that are not there yet. Raises Unavailable."""
    assert settings.url is not None
    milliseconds = int(settings.timeout_seconds * 1000)
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        settings.url.get_secret_value(),
        appname="lakegate-catalog",
        # What was answered must survive the loss of any one node, and of power on a single one: acknowledged by a
        # majority, in their journals. Options in the URL don't weaken it: these win.
        w="majority",
        journal=True,
        # A read must not show what an election can take back: a version handed out is one that stays.
        readConcernLevel="majority",
        # The next sequence is built on what is read; from a secondary it would often be lost races.
        readPreference="primary",
        # On a replica set the server recognizes a repeated write, so an insert is not its own lost race.
        retryWrites=True,
        retryReads=True,
        # for the whole of an operation: finding a server, waiting for a connection, retries, the majority
        timeoutMS=milliseconds,
        serverSelectionTimeoutMS=milliseconds,
        connectTimeoutMS=int(CONNECT_SECONDS * 1000),
        maxPoolSize=settings.pool_max,
        tz_aware=True,
        uuidRepresentation="standard",
    )
    try:
        database = client[settings.database]
        collections = Collections(database["changes"], database["claims"])
        with translated():
            await _check_server(client)
            await collections.changes.create_indexes(list(CHANGE_INDEXES))
            await collections.claims.create_indexes(list(CLAIM_INDEXES))
        yield collections
    finally:
        client.close()


async def _check_server(client: AsyncIOMotorClient[Document]) -> None:
    version = (await client.server_info())["versionArray"]
    if tuple(version[:2]) < OLDEST_VERSION:
        raise RuntimeError(f"MongoDB {'.'.join(map(str, version))} is too old: 5.0 or newer is needed")
    greeting = await client.admin.command("isMaster")
    if "setName" not in greeting and greeting.get("msg") != "isdbgrid":
        log.warning("mongodb_without_replica_set", consequence="what its one node loses is lost")


class MongoOutbox(Outbox):
    """Events in the documents of their changes, of all tenants: each carries its own."""

    def __init__(self, collections: Collections) -> None:
        self._changes = collections.changes

    async def left_behind(self, before: datetime, limit: int) -> list[tuple[str, int, datetime]]:
        wanted = {"outbox.entity": True, "outbox.since": True, "sequence": True}
        with translated():
            found = self._changes.find({"outbox.since": {"$lt": before}}, wanted)
            documents = await found.sort("outbox.since", ASCENDING).limit(limit).to_list(None)
        return [(each["outbox"]["entity"], each["sequence"], each["outbox"]["since"]) for each in documents]

    async def waiting(self, entities: Collection[str], limit: int) -> list[Waiting]:
        with translated():
            found = self._changes.find({"outbox.entity": {"$in": list(entities)}}, {"sequence": True, "outbox": True})
            return [to_waiting(each) for each in await found.sort("sequence", ASCENDING).limit(limit).to_list(None)]

    async def settle(self, change_ids: Sequence[str]) -> None:
        with translated():
            await self._changes.update_many({"_id": {"$in": list(change_ids)}}, {"$unset": {"outbox": ""}})


class MongoCatalogStore(CatalogStore):
    """Adapter over motor. `relay` has to be running for changes with events to get their positions."""

    def __init__(self, collections: Collections, relay: Relay) -> None:
        self._changes = collections.changes
        self._claims = collections.claims
        self._relay = relay

    async def append(self, change: Change) -> Change:
        _check_tenant(change.tenant)
        event = None
        if change.event is not None:
            event = make_event(change.event, key=str(change.entity_id), tenant=change.tenant, source=SOURCE)
        document = from_change(change, event, datetime.now(UTC))
        try:
            with translated():
                await self._changes.insert_one(document)
        except DuplicateKeyError as error:
            raise SequenceTaken(f"{change.entity_id}:{change.sequence}") from error
        # from here on it is done, whatever happens to the rest
        _, position = await asyncio.gather(self._outdate(document), self._position(document))
        return replace(change, position=position)

    async def _position(self, document: Document) -> int | None:
        return await self._relay.position(document["latest_of"], document["sequence"]) if "outbox" in document else None

    async def _outdate(self, document: Document) -> None:
        """The changes before are not the latest any more. Left undone it costs readers a document each."""
        if document["sequence"] == 1:
            return
        earlier = {"latest_of": document["latest_of"], "_id": {"$lt": document["_id"]}}
        try:
            with translated():
                await self._changes.update_many(earlier, {"$unset": {"latest_of": ""}})
        except Unavailable as error:
            log.warning("change_not_outdated", change=document["_id"], reason=str(error.__cause__))

    async def current(self, tenant: str, entity_id: UUID) -> Change | None:
        found = await self.history(tenant, entity_id, limit=1)
        return found[0] if found else None

    async def history(
        self, tenant: str, entity_id: UUID, *, before: int | None = None, limit: int = 100
    ) -> list[Change]:
        wanted = {"_id": change_ids(tenant, entity_id, before), "tenant": tenant}
        with translated():
            found = self._changes.find(wanted, NO_OUTBOX).sort("_id", DESCENDING).limit(limit)
            return [to_change(each) for each in await found.to_list(None)]

    async def change(self, tenant: str, entity_id: UUID, sequence: int) -> Change | None:
        wanted = {"_id": change_id(tenant, entity_id, sequence), "tenant": tenant}
        with translated():
            found = await self._changes.find_one(wanted, NO_OUTBOX)
        return to_change(found) if found else None

    async def claim(self, tenant: str, claim: Claim) -> Claim:
        _check_tenant(tenant)
        document = from_claim(tenant, claim)
        unique = {"_id": document.pop("_id"), "tenant": document.pop("tenant")}
        for _ in range(CLAIM_ATTEMPTS):
            try:
                # one command that inserts or answers what is there, and in both cases once a majority has it
                with translated():
                    held = await self._claims.find_one_and_update(
                        unique, {"$setOnInsert": document}, upsert=True, return_document=ReturnDocument.AFTER
                    )
                return to_claim(held)
            except DuplicateKeyError:
                continue  # two upserts at once: MongoDB lets one of them try again
        raise Unavailable(f"The name {claim.name.key} is claimed by many at once. Try again shortly.")

    async def release(self, tenant: str, claim: Claim) -> bool:
        exactly = {
            "_id": claim_id(tenant, claim.name),
            "tenant": tenant,
            "entity_id": claim.entity_id,
            "sequence": claim.sequence,
        }
        with translated():
            released = await self._claims.delete_one(exactly)
        return released.deleted_count == 1

    async def named(self, tenant: str, name: Name) -> Change | None:
        with translated():
            held = await self._claims.find_one({"_id": claim_id(tenant, name), "tenant": tenant})
        current = await self.current(tenant, held["entity_id"]) if held else None
        return current if current and current.key == name.key else None

    async def listed(
        self,
        tenant: str,
        space: Space,
        *,
        parent: str | None = None,
        prefix: str = "",
        areas: Sequence[str] | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[Change]:
        wanted: Document = {"tenant": tenant, "space": space.value}
        if parent is not None:
            wanted["parent"] = parent
        within = [] if areas is None else [{"parent": {"$regex": parents_in(areas)}}]
        carried: list[Change] = []
        page = max(limit, SMALLEST_PAGE)
        while len(carried) < limit:
            keys = {"$and": [{"key": beginning_with(prefix)}, {"key": {"$gt": after}}, *within]}
            with translated():
                found = self._claims.find(wanted | keys).sort("key", ASCENDING).limit(page)
                claims = await found.to_list(None)
            carried += await self._carried(claims)
            if len(claims) < page:
                break
            after = claims[-1]["key"]
        return carried[:limit]

    async def claims(self, tenant: str, space: Space, parent: str, *, limit: int = 100) -> list[Claim]:
        wanted = {"tenant": tenant, "space": space.value, "parent": parent}
        with translated():
            found = self._claims.find(wanted).sort("key", ASCENDING).limit(limit)
            return [to_claim(each) for each in await found.to_list(None)]

    async def everything(self, space: Space, *, batch: int = 500) -> AsyncIterator[Sequence[Change]]:
        tenant, key = "", ""
        while True:
            above = {"$or": [{"tenant": {"$gt": tenant}}, {"tenant": tenant, "key": {"$gt": key}}]}
            order = [("tenant", ASCENDING), ("key", ASCENDING)]
            with translated():
                found = self._claims.find({"space": space.value} | above).sort(order).limit(batch)
                claims = await found.to_list(None)
            if not claims:
                return
            if carried := await self._carried(claims):
                yield carried
            tenant, key = claims[-1]["tenant"], claims[-1]["key"]

    async def _carried(self, claims: Iterable[Document]) -> list[Change]:
        """The current changes of the entities that carry the names they claim."""
        keys = [(entity_key(each["tenant"], each["entity_id"]), each) for each in claims]
        latest: dict[str, Change] = {}
        with translated():
            found = self._changes.find({"latest_of": {"$in": [key for key, _ in keys]}}, NO_OUTBOX)
            # a change may be marked beside the one that outdated it: the highest sequence wins
            for document in await found.sort("sequence", ASCENDING).to_list(None):
                latest[document["latest_of"]] = to_change(document)
        carried = []
        for key, claim in keys:
            # a claim whose change is yet to come, mostly; looked for one by one, so that no mark has to be trusted
            change = latest.get(key) or await self.current(claim["tenant"], claim["entity_id"])
            if change and change.key == claim["key"] and change.space == claim["space"]:
                carried.append(change)
        return carried


def _check_tenant(tenant: str) -> None:
    """What row-level security does in PostgreSQL. Raises ValueError."""
    if tenant in ("", EVERY_TENANT):
        raise ValueError(f"{tenant!r} is nobody's tenant: nothing is written for it")
