"""The search index: tantivy on disk, one document a dataset, and one more that says how far the feed was applied.

That position is a document because it then becomes durable in the same commit as the changes it speaks of.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import tantivy

from lakegate_chassis.logs import log

# A new number makes every replica build its index anew: raise it with every change of `_schema` or `_document`.
FORMAT = 1
POSITION_ID = "position"
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class IndexClosed(Exception):
    """The process is about to end: what was not applied is read again from the log at the next start."""


class IndexDamaged(Exception):
    """The disk is full, or files vanished or broke under the index; `recover` goes on."""


class IndexInUse(Exception):
    """Each process needs an index folder of its own (CATALOG_SEARCH__DIR)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A dataset as it is to be found; `dataset` is its wire form, None when it is gone."""

    tenant: str
    id: str
    version: int
    area: str
    dataset: dict[str, Any] | None


def words(text: str) -> list[str]:
    """The words of a name or text in lower case: split where it is no letter or digit, and at camelCase."""
    return [word.lower() for part in _WORD.findall(text) for word in _CAMEL.split(part)]


class SearchIndex:
    """One writer, many readers. Methods that touch the disk block: call them in a thread."""

    def __init__(self, folder: Path, heap_bytes: int) -> None:
        self._folder = folder / f"v{FORMAT}"
        self._heap_bytes = heap_bytes
        self.schema = _schema()
        self.position: int | None = None  # the feed's position that is applied; None: not built yet
        self._writer: Any = None
        # a cancelled task leaves its thread running: nothing may close or wipe the index under it
        self._lock = threading.Lock()
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self.index = tantivy.Index(self.schema, str(self._folder), reuse=True)
            self._writer = self.index.writer(self._heap_bytes, 1)
            self.position = self._read_position()
        except BaseException as error:
            if not _is_damage(error):
                raise
            log.warning("search_index_unreadable", folder=str(self._folder), reason=str(error))
            self._wipe()

    def wipe(self) -> None:
        """Begin an empty index, in which nothing was applied."""
        with self._lock:
            self._wipe()

    def _wipe(self) -> None:
        self._writer = None
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self.index = tantivy.Index(self.schema, str(self._folder), reuse=False)
        self._writer = self.index.writer(self._heap_bytes, 1)
        self.position = None

    def close(self) -> None:
        """Let merges end and give the folder up."""
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.wait_merging_threads()
                self._writer = None

    def recover(self) -> None:
        """After IndexDamaged: go on with what is on disk, or begin anew."""
        with self._lock:
            if self._writer is None and not self._closed:
                self._open()

    def apply(self, entries: Iterable[Entry], position: int | None) -> None:
        """Make the entries visible, the highest version of each id winning, and remember the position.

        With position None nothing is visible yet and no versions are compared: an empty index is being filled.
        """
        newest: dict[str, Entry] = {}
        for entry in entries:
            known = newest.get(entry.id)
            if known is None or entry.version >= known.version:
                newest[entry.id] = entry
        with self._lock:
            if self._closed:
                raise IndexClosed
            try:
                self._apply(newest.values(), position)
            except BaseException as error:
                # a writer that failed once takes nothing more, and what it held is rolled back
                self._writer = None
                if _is_damage(error):
                    raise IndexDamaged(str(error)) from error
                raise

    def _apply(self, newest: Iterable[Entry], position: int | None) -> None:
        searcher = self.index.searcher()
        for entry in newest:
            if position is not None:
                if self._version(searcher, entry.id) > entry.version:
                    continue
                self._writer.delete_documents_by_term("id", entry.id)
            if entry.dataset is not None:
                self._writer.add_document(self._document(entry))
        if position is None:
            return
        self._writer.delete_documents_by_term("id", POSITION_ID)
        self._writer.add_document(tantivy.Document.from_dict({"id": POSITION_ID, "version": position}, self.schema))
        self._writer.commit()
        self.index.reload()
        self.position = position

    def _version(self, searcher: Any, entry_id: str) -> int:
        query = tantivy.Query.term_query(self.schema, "id", entry_id)
        hits = searcher.search(query, limit=1, count=False).hits
        if not hits:
            return 0
        return int(searcher.fast_field_values("version", [hits[0][1]])[0] or 0)

    def _read_position(self) -> int | None:
        self.index.reload()
        return self._version(self.index.searcher(), POSITION_ID) or None

    def _document(self, entry: Entry) -> Any:
        dataset = entry.dataset or {}
        columns = [field["name"] for field in dataset["schema"]["fields"]]
        return tantivy.Document.from_dict(
            {
                "id": entry.id,
                "version": entry.version,
                "tenant": entry.tenant,
                "area": entry.area,
                "kind": dataset["kind"],
                "tag": list(dataset["tags"]),
                "owner": [dataset["owner"]] if dataset.get("owner") else [],
                "full_name": dataset["name"].lower(),
                "name": " ".join(words(dataset["name"])),
                "columns": " ".join(word for column in columns for word in words(column)),
                "text": " ".join(
                    words(" ".join((dataset.get("description") or "", dataset.get("owner") or "", *dataset["tags"])))
                ),
                "body": orjson.dumps(dataset),
            },
            self.schema,
        )


def _is_damage(error: BaseException) -> bool:
    """Whether opening failed for what is in the folder: another schema, a broken file. Raises IndexInUse.

    tantivy says all of it with ValueError, but panics on a file that is too short; pyo3 makes a BaseException of
    that, in a module that can't be imported.
    """
    if isinstance(error, ValueError):
        if "lock" in str(error).lower():
            raise IndexInUse("Another process writes this search index; set CATALOG_SEARCH__DIR.") from error
        return True
    return type(error).__name__ == "PanicException"


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    for raw in ("id", "tenant", "area", "full_name"):
        builder.add_text_field(raw, tokenizer_name="raw", index_option="basic")
    for facet in ("kind", "tag", "owner"):
        builder.add_text_field(facet, tokenizer_name="raw", index_option="basic", fast=True)
    for text in ("name", "columns", "text"):
        builder.add_text_field(text, tokenizer_name="default", index_option="freq")
    builder.add_integer_field("version", indexed=False, fast=True)
    builder.add_bytes_field("body", stored=True)
    return builder.build()
