"""Metadata files of tables: written once, under a name that nobody had; cached, since they never change."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import obstore
import obstore.exceptions
from prometheus_client import Gauge
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil

from lakegate_catalog.iceberg.dialect import BadRequest
from lakegate_catalog.settings import WarehouseSettings
from lakegate_chassis.logs import log
from lakegate_chassis.metrics import CACHE_ENTRIES, CACHE_LOOKUPS
from lakegate_chassis.objectstore import STORE_ERRORS, ObjectStoreSettings, open_store
from lakegate_chassis.threads import in_thread
from lakegate_contracts.names import TableName

# What parsed metadata weighs for each byte of its JSON, measured on 1 to 3,000 snapshots: 8 to 12.
PARSED_WEIGHT = 12
_VERSION = re.compile(r"/(\d+)-[^/]*$")
# Kept out of locations, which are URLs to some engines and plain paths to others; the UUID keeps them unique.
_UNSAFE = re.compile(r"[^A-Za-z0-9_=-]")
_ENDS_WITH_UUID = re.compile(r"[^/]+-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What would mean something else in a URL than in a path.
_MISLEADING = re.compile(r"[%?#\\\x00-\x1f]")
# The folder of rejected rows, beside those of namespaces.
RESERVED = "_quarantine"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DELETE_BATCH = 1000
_CACHE = "table_metadata"
CACHE_BYTES = Gauge("lakegate_catalog_metadata_cache_bytes", "What the cached metadata of tables weighs")


@dataclass(slots=True)
class Document:
    """A metadata file: its place, its bytes, and its parsed form once somebody needed it."""

    location: str
    content: bytes
    parsed: TableMetadata | None = None

    @property
    def weight(self) -> int:
        return len(self.content) * (1 + (PARSED_WEIGHT if self.parsed is not None else 0))


class Warehouse:
    """The object store below the warehouse's location. Locations are URLs; paths are relative to it."""

    def __init__(self, settings: WarehouseSettings, objects: ObjectStoreSettings, cache_bytes: int) -> None:
        self.settings = settings
        self.root = settings.location
        self.store = open_store(settings.location, objects)
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[str, Document] = OrderedDict()
        self._weight = 0
        CACHE_ENTRIES.labels(_CACHE).set_function(self._cached.__len__)
        CACHE_BYTES.set_function(lambda: self._weight)

    def table_location(self, tenant: str, table: TableName, table_uuid: UUID) -> str:
        """Where a new table goes; the UUID keeps a table that is dropped and made again apart from its old files."""
        return f"{self._folder(tenant, table)}{_UNSAFE.sub('_', table.name)}-{table_uuid}"

    def check_chosen(self, tenant: str, table: TableName, location: str) -> str:
        """A client's own choice, without a trailing slash. Raises BadRequest unless it could be this catalog's for the
        table: whoever may write in one namespace gets keys for its files, and may not choose those of another.
        """
        clean = self.check_location(tenant, location)
        folder = self._folder(tenant, table)
        if not clean.startswith(folder) or not _ENDS_WITH_UUID.fullmatch(clean, len(folder)):
            raise BadRequest(
                f"A table of namespace {table.namespace} has to be at {folder}<name>-<uuid>, not at {location[:500]}. "
                "Leave the location out, and the catalog chooses it."
            )
        return clean

    def _folder(self, tenant: str, table: TableName) -> str:
        """Of the tables of the namespace, with a slash at its end."""
        return self._home(tenant) + "".join(f"{_level_folder(level)}/" for level in table.levels)

    def check_location(self, tenant: str, location: str) -> str:
        """The location without a trailing slash. Raises BadRequest when it is not below the tenant's folder."""
        clean = location.rstrip("/")
        home = self._home(tenant)
        parts = clean[len(home) :].split("/")
        # an escape or a query would be another place to a reader that takes locations for URLs
        if (
            not clean.startswith(home)
            or any(part in ("", ".", "..") for part in parts)
            or _MISLEADING.search(clean, len(home))
            or parts[0] == RESERVED
        ):
            raise BadRequest(f"A table of this tenant has to be below {home}, not at {location[:500]}.")
        return clean

    def check_files(self, tenant: str, metadata: TableMetadata, known: TableMetadata | None = None) -> list[str]:
        """The lists and statistics that `known` had not. Raises BadRequest when one is not in the table's folder."""
        home = self.check_location(tenant, metadata.location) + "/"
        before = set() if known is None else {*_files(known)}
        added = [file for file in _files(metadata) if file not in before]
        for file in added:
            self.check_location(tenant, file)
            if not file.startswith(home):
                raise BadRequest(f"A file of this table has to be below {home}, not at {file[:500]}.")
        return added

    async def check_there(self, files: Sequence[str]) -> None:
        """Raises BadRequest for one that is not in the store: nobody could read it. A commit has one or two."""
        for file in files:
            try:
                await obstore.head_async(self.store, self.path(file))
            except FileNotFoundError as error:
                raise BadRequest(f"There is no file {file[:500]}. Write it before you commit it.") from error

    def _home(self, tenant: str) -> str:
        """The tenant's folder, with a slash at its end: nothing of one tenant may begin like another's."""
        if not _TENANT.fullmatch(tenant):
            raise BadRequest(f"The tenant {tenant!r} can't name a folder of the warehouse.")
        return f"{self.root}/{tenant}/"

    def prepare(self, location: str) -> None:
        """Make the folders of a staged table in a local warehouse: DuckDB writes files there and makes none."""
        if location.startswith("file:"):
            for folder in ("metadata", "data"):
                (_local(location) / folder).mkdir(parents=True, exist_ok=True)

    async def write(self, metadata: TableMetadata, version: int) -> Document:
        """Store the metadata as a new file below the table's location."""
        content = metadata.model_dump_json().encode()
        location = f"{metadata.location}/metadata/{version:05d}-{uuid4()}.metadata.json"
        # conditional; nobody else has this name, so one that is there is ours: the store's first answer was lost
        with suppress(obstore.exceptions.AlreadyExistsError):
            await obstore.put_async(self.store, self.path(location), content, mode="create")
        document = Document(location, content, metadata)
        self._remember(document)
        return document

    async def read(self, location: str) -> Document:
        """The file's bytes, cached. Raises FileNotFoundError."""
        known = self._cached.get(location)
        CACHE_LOOKUPS.labels(_CACHE, "miss" if known is None else "hit").inc()
        if known is not None:
            self._cached.move_to_end(location)
            return known
        result = await obstore.get_async(self.store, self.path(location))
        document = Document(location, bytes(await result.bytes_async()))
        self._remember(document)
        return document

    async def parse(self, location: str) -> tuple[Document, TableMetadata]:
        """The file, parsed (in a thread: 80 ms for 3,000 snapshots). Raises FileNotFoundError, ValidationError."""
        document = await self.read(location)
        if document.parsed is None:
            parsed = await in_thread(TableMetadataUtil.parse_raw, document.content.decode())
            self._forget(location)  # with the weight that it was remembered by
            document.parsed = parsed
            self._remember(document)
        return document, document.parsed

    async def discard(self, document: Document) -> None:
        """Delete the file of a commit that lost. A failure is logged: the file is an orphan, and harmless."""
        self._forget(document.location)
        try:
            await obstore.delete_async(self.store, self.path(document.location))
        except STORE_ERRORS as error:
            log.warning("metadata_not_deleted", location=document.location, reason=str(error))

    async def delete(self, locations: Sequence[str]) -> None:
        """Delete these files; one that is gone already is no error."""
        for location in locations:
            self._forget(location)
        await self._delete([self.path(location) for location in locations])

    async def purge(self, location: str) -> int:
        """Delete everything below a table's location; returns how many files that were."""
        deleted = 0
        async for batch in obstore.list(self.store, self.path(location) + "/", chunk_size=DELETE_BATCH):
            paths = [item["path"] for item in batch]
            await self._delete(paths)
            deleted += len(paths)
        return deleted

    async def _delete(self, paths: Sequence[str]) -> None:
        try:
            await obstore.delete_async(self.store, paths)
        except FileNotFoundError:
            # S3 is content with a file that is gone; GCS and Azure stop there, and may leave the others
            for path in paths:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self.store, path)

    def path(self, location: str) -> str:
        """The key of a location below the warehouse's."""
        return location[len(self.root) + 1 :]

    def _remember(self, document: Document) -> None:
        self._forget(document.location)
        if document.weight > self._cache_bytes:
            return
        self._cached[document.location] = document
        self._weight += document.weight
        while self._weight > self._cache_bytes:
            self._forget(next(iter(self._cached)))

    def _forget(self, location: str) -> None:
        known = self._cached.pop(location, None)
        if known is not None:
            self._weight -= known.weight


def _files(metadata: TableMetadata) -> Iterator[str]:
    for snapshot in metadata.snapshots:
        yield snapshot.manifest_list
    for statistics in metadata.statistics:
        yield statistics.statistics_path
    for partitions in metadata.partition_statistics:
        yield partitions.statistics_path


def _local(location: str) -> Path:
    return Path(unquote(urlsplit(location).path))


def next_version(location: str) -> int:
    """The number after that in a metadata file's name; 0 when it has none."""
    found = _VERSION.search(location)
    return int(found[1]) + 1 if found else 0


def _level_folder(level: str) -> str:
    """A folder that no other level has: whoever may write in one namespace may choose places in its folder. No level
    that is written as it is has a tilde."""
    plain = _UNSAFE.sub("_", level)
    return level if plain == level else f"{plain}~{hashlib.sha256(level.encode()).hexdigest()[:16]}"
