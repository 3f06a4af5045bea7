"""Rejected rows as a file of the kind that they were sent in: mended, it can be pushed again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lakegate.client import Client, Reject
from lakegate.failures import CommandFailed
from lakegate_contracts.receipts import Receipt

_DELIMITED = ("csv", "tsv")
_LINE_ENDS = re.compile(r"[\r\n]+")


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    table: str
    rows: int
    format: str
    header: bool

    def document(self) -> dict[str, Any]:
        return {"file": str(self.path), "rows": self.rows, "format": self.format, "header": self.header}

    def told(self) -> str:
        if not self.rows:
            return "No row was set aside; no file was written."
        more = "" if self.header or self.format == "ndjson" else " --no-header"
        again = f"lakegate push {shlex.quote(str(self.path))} {shlex.quote(self.table)} --format {self.format}{more}"
        return f"{self.rows} rows in {self.path}. Mend them, and push them with the options of the first time: {again}"


def write_rejected(lake: Client, load_id: str, path: Path) -> Written:
    """Each rejected row of a load once: CSV and TSV under their header, all else as JSON lines.

    Raises CommandFailed when there is such a file, or when rows of several files don't go into one.
    """
    receipt = lake.load(load_id).receipt
    if receipt is None:
        raise CommandFailed("The load has not completed, so no row was set aside.", hint=f"lakegate loads {load_id}")
    headers = lake.rejects(load_id, limit=1).headers
    rejects = _each_row_once(lake.all_rejects(load_id))
    if (first := next(rejects, None)) is None:
        return Written(path, receipt.table, 0, "", False)
    format_, header = _kind(receipt, first, headers)
    try:
        file = path.open("x", encoding="utf-8", newline="")
    except FileExistsError:
        raise CommandFailed(f"{path} is there already.", hint="Name another file, or remove it.") from None
    rows = 0
    whole = False
    try:
        with file:
            if header is not None:
                file.write(f"{header}\n")
            for reject in chain([first], rejects):
                if _kind(receipt, reject, headers) != (format_, header):
                    raise CommandFailed(
                        "The load has several files of unlike formats or headers; their rows don't go into one file.",
                        hint=f"lakegate rejects {load_id} --json has the text of each row.",
                    )
                # between the values of a JSON array an end of a line is as good as a blank
                row = str(reject.row)
                file.write(f"{row if format_ in _DELIMITED else _LINE_ENDS.sub(' ', row)}\n")
                rows += 1
        whole = True
    finally:
        if not whole:  # a part would be taken for all of them
            path.unlink()
    return Written(path, receipt.table, rows, format_, header is not None)


def _kind(receipt: Receipt, reject: Reject, headers: dict[str, str]) -> tuple[str, str | None]:
    """A format that can be written, and the header."""
    format_ = next((file.format for file in receipt.files if file.name == reject.file), "ndjson")
    return (format_, headers.get(reject.file or "")) if format_ in _DELIMITED else ("ndjson", None)


def _each_row_once(rejects: Iterator[Reject]) -> Iterator[Reject]:
    """One with several faults comes several times, one after the other."""
    last: int | None = None
    for reject in rejects:
        if reject.row_id != last:
            yield reject
        last = reject.row_id
