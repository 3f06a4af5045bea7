"""Reading spooled files with the engine: a bounded number at once, and early, while the body still arrives.

A large body that arrives fast is read while it is received, if an engine slot is free. A slow client must not hold a
slot that a complete load waits for: its early reading is dropped then, and the file read again once it is whole.
"""

from __future__ import annotations

import asyncio
import codecs
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from lakegate_chassis.logs import log
from lakegate_chassis.problems import Problem
from lakegate_ingest import engine
from lakegate_ingest.errors import BadParameter, CatalogUnavailable, SchemaConflict, SpoolFull, UnreadableData
from lakegate_ingest.loads.live import LiveLoad
from lakegate_ingest.loads.schemas import LoadOptions, Progress, StoredFile
from lakegate_ingest.metrics import EARLY_READS, PHASE_SECONDS
from lakegate_ingest.settings import EngineSettings
from lakegate_ingest.spool.headers import BadHeader, parse_header

# Encodings of Python's own for names, source code and tests; their errors are not those of a damaged file.
NO_CHARSETS = ("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape")


class EarlyRead:
    """A reading that began before its file was whole. `arrival` is told of every write, and of the end."""

    def __init__(self, expected_bytes: int | None) -> None:
        self.arrival = engine.Arrival(expected_bytes)
        self.receiving = True
        self.preempted = False
        self.task: asyncio.Task[tuple[TableMetadata | None, engine.WriteResult]] | None = None

    def finish(self, file: StoredFile) -> None:
        """The file is whole: nobody may drop the reading any more."""
        self.receiving = False
        self.arrival.finish(file.records or 0, file.malformed)

    def abort(self) -> None:
        self.arrival.abort()

    async def settled(self) -> None:
        """Wait until the engine has let go of the file; its outcome does not matter any more."""
        if self.task is not None:
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                self.task.exception()

    async def outcome(self) -> tuple[TableMetadata | None, engine.WriteResult] | None:
        """What it read, against which table; None when it was dropped. Raises Problem."""
        assert self.task is not None
        try:
            found = await self.task
        except CatalogUnavailable:
            return None  # it may be back by now: the reading of the whole file asks again
        except Problem:
            if self.preempted:
                EARLY_READS.labels("dropped").inc()
                return None
            raise
        EARLY_READS.labels("used").inc()
        return found


@dataclass(frozen=True)
class Reading:
    """What to read: files by name in `folder`, as part of `live`'s load, for a table as `base` has it."""

    live: LiveLoad
    folder: Path
    sources: list[engine.Source]
    options: LoadOptions
    schema: Schema | None
    base: TableMetadata | None
    received_bytes: int
    attempt: int


class Reader:
    """Runs the engine in threads, at most `workers` at once."""

    def __init__(self, executor: Executor, settings: EngineSettings, *, workers: int) -> None:
        self._executor = executor
        self._settings = settings
        self._slots = asyncio.Semaphore(workers)
        self._early: set[EarlyRead] = set()

    @property
    def has_free_slot(self) -> bool:
        return not self._slots.locked()

    @asynccontextmanager
    async def slot(self, early: EarlyRead | None = None) -> AsyncIterator[None]:
        """Hold an engine slot. One that is held by an unfinished early reading is taken from it."""
        if early is None and self._slots.locked():
            for held in self._early:
                if held.receiving:
                    held.preempted = True
                    held.abort()
                    break
        async with self._slots:
            if early is not None:
                self._early.add(early)
            try:
                yield
            finally:
                if early is not None:
                    self._early.discard(early)

    async def read(self, reading: Reading) -> engine.WriteResult:
        """Read in a slot that the caller holds. Raises Problem."""
        with PHASE_SECONDS.labels("read").time():
            result = await asyncio.get_running_loop().run_in_executor(self._executor, self._write, reading)
        for note in result.notes:
            # Usually a bad row; but whatever it is, the tolerant path is several times slower, and says nothing itself.
            log.info("read_tolerantly", folder=reading.folder.name, reason=note)
        return result

    def _write(self, reading: Reading) -> engine.WriteResult:
        for left in reading.folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
        live, work = reading.live, reading.folder / str(reading.attempt)

        def on_progress(progress: engine.Progress) -> None:
            live.progress = Progress(
                bytes_received=max(reading.received_bytes, live.progress.bytes_received),
                bytes_read=progress.bytes_read,
                bytes_total=progress.bytes_total,
                rows=progress.rows,
            )

        base = reading.base
        try:
            return engine.write(
                reading.sources,
                reading.schema,
                on_new_column=reading.options.on_new_column,
                last_column_id=base.last_column_id if base is not None else None,
                out_dir=work / "out",
                quarantine_dir=work / "quarantine",
                work_dir=work / "work",
                limits=engine.EngineLimits(memory_bytes=self._settings.memory_bytes, threads=self._settings.threads),
                progress=on_progress,
                cancelled=live.cancelled,
            )
        except engine.EngineError as error:
            raise engine_problem(error) from error


def source_of(folder: Path, file: StoredFile, options: LoadOptions) -> engine.Source:
    return engine.Source(
        path=folder / file.spool_name,
        name=file.name,
        options=read_options(file.format, file.content_type, options),
        records=file.records,
        malformed=file.malformed,
    )


def read_options(format_name: str, content_type: str, options: LoadOptions) -> engine.ReadOptions:
    """What the engine needs to know to read (and to count) one file. Raises BadParameter for an unknown charset."""
    try:
        charset = parse_header("Content-Type", content_type).get("charset")
    except BadHeader as error:
        raise BadParameter(str(error)) from error
    try:
        encoding = _text_encoding(charset) if charset else None
    except (LookupError, ValueError) as error:
        raise BadParameter(
            f"The charset '{str(charset)[:60]}' of the Content-Type can't be read. Use UTF-8."
        ) from error
    return engine.ReadOptions(
        format=engine.Format(format_name),
        delimiter=options.delimiter,
        null_values=options.null_values,
        header=options.header,
        encoding=None if encoding == "utf-8" else encoding,
    )


def _text_encoding(charset: str) -> str:
    """Python's name of the encoding. Raises LookupError for codecs that are no charset, ValueError for a bad name."""
    name = codecs.lookup(charset).name
    if name.replace("-", "_") in NO_CHARSETS:
        raise LookupError(charset)
    "".encode(name)  # raises for what translates bytes into bytes (zlib), or text into text (rot13)
    return name


def engine_problem(error: engine.EngineError) -> Problem:
    """The engine names slug, title and status itself; they become a problem as they are."""
    return _PROBLEMS[type(error)](error.detail)


def _problems(parent: type[engine.EngineError]) -> Iterator[tuple[type[engine.EngineError], type[Problem]]]:
    """A problem class for each kind of engine error below `parent`, so that all of them can be listed."""
    for kind in parent.__subclasses__():
        base = {507: SpoolFull, 422: UnreadableData, 409: SchemaConflict}.get(kind.status, Problem)
        yield kind, type(kind.__name__, (base,), {"slug": kind.slug, "title": kind.title, "status": kind.status})
        yield from _problems(kind)


_PROBLEMS = dict(_problems(engine.EngineError))
