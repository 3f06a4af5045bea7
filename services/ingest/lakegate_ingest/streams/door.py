"""Whether rows may enter a stream: all of a request, or none of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from pyiceberg.schema import Schema

from lakegate_chassis.problems import MAX_ERRORS, FieldError
from lakegate_ingest import engine
from lakegate_ingest.errors import BadRows, StreamBusy
from lakegate_ingest.loads.reading import engine_problem
from lakegate_ingest.streams.reading import Read, Reject, Target, read_rows
from lakegate_ingest.streams.requests import OnNewColumn
from lakegate_ingest.streams.scratch import Scratch
from lakegate_ingest.streams.shape import Shape
from lakegate_ingest.streams.tables import Known

# Requests may wait for a judge; more than these per judge would wait longer than their clients.
WAITING_PER_JUDGE = 16
LIMITS = engine.EngineLimits(memory_bytes=96 * 1024 * 1024, threads=1)


class Door:
    """Judges rows: at once where the quick check is certain, else by the engine in one of `judges` threads."""

    def __init__(self, executor: Executor, scratch: Scratch, *, judges: int) -> None:
        self._executor = executor
        self._scratch = scratch
        self._slots = asyncio.Semaphore(judges)
        self._waiting = 0
        self._most_waiting = judges * WAITING_PER_JUDGE

    async def check(self, rows: Sequence[bytes], known: Known, on_new_column: OnNewColumn) -> None:
        """Raises BadRows with a pointer for each row that does not fit, StreamBusy."""
        shape = known.shape
        uncertain = shape.uncertain(rows)
        if not uncertain:
            return
        rejects: list[Reject] = []
        judged: list[int] = []
        for index in uncertain:
            found = shape.screen(rows[index], on_new_column)
            if found is None:
                judged.append(index)
            else:
                rejects.append(Reject(index, found[0], None, found[1]))
        if judged:
            target = Target(shape.schema, known.last_column_id, on_new_column)
            read = await self._read([rows[index] for index in judged], target)
            rejects += [Reject(judged[item.index], item.column, item.value, item.reason) for item in read.rejects]
        if rejects:
            raise bad_rows(rejects)

    async def infer(self, rows: Sequence[bytes]) -> Schema:
        """The schema of a table that these rows are the first of. Raises BadRows, StreamBusy."""
        blank = Shape(Schema())
        broken = [(index, found) for index, row in enumerate(rows) if (found := blank.what_is_wrong(row)) is not None]
        if broken:
            raise bad_rows([Reject(index, column, None, reason) for index, (column, reason) in broken])
        read = await self._read(rows, Target(None, None, "evolve"))
        if read.rejects:
            raise bad_rows(read.rejects)
        return read.schema

    async def _read(self, rows: Sequence[bytes], target: Target) -> Read:
        if self._waiting >= self._most_waiting:
            raise StreamBusy(
                "Too many requests wait to be judged. Nothing was taken; try again shortly.", retry_after=1
            )
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.get_running_loop().run_in_executor(self._executor, self._judge, rows, target)
        finally:
            self._waiting -= 1

    def _judge(self, rows: Sequence[bytes], target: Target) -> Read:
        with self._scratch.folder() as folder:
            try:
                return read_rows(rows, target, folder, LIMITS, name="the request")
            except engine.EngineError as error:
                raise engine_problem(error) from error


def bad_rows(rejects: Sequence[Reject]) -> BadRows:
    """The problem that points at each; RFC 6901 pointers into the array of rows."""
    rows = sorted({reject.index for reject in rejects})
    errors = [
        FieldError(detail=reject.reason, pointer=_pointer(reject))
        for reject in sorted(rejects, key=lambda item: item.index)[:MAX_ERRORS]
    ]
    extensions: dict[str, Any] = {"bad_rows": len(rows)}
    return BadRows(
        f"{len(rows):,} of the rows don't fit the table, the first of them is number {rows[0]} (from 0). No row of "
        "the request was taken. Correct or remove them, or send on_bad_row=quarantine to have them set aside.",
        errors=errors,
        **extensions,
    )


def _pointer(reject: Reject) -> str:
    if reject.column is None:
        return f"/{reject.index}"
    return f"/{reject.index}/{reject.column.replace('~', '~0').replace('/', '~1')}"
