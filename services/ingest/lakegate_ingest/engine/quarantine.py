"""The records that were set aside, one for each error, in Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakegate_ingest.engine.batch import Broken, Split
from lakegate_ingest.engine.inputs import Input
from lakegate_ingest.engine.types import Reading

# `row_id` numbers the records of a load from 0 in file order: errors of the same row share it.
# `column` and `value` are null when the whole row is at fault. `row` is the raw text.
_FIELDS: list[Any] = [
    pa.field("row_id", pa.int64(), nullable=False),
    pa.field("file", pa.string(), nullable=False),
    pa.field("line", pa.int64(), nullable=False),
    pa.field("column", pa.string()),
    pa.field("value", pa.string()),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("row", pa.dictionary(pa.int32(), pa.string()), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)
# How the files are written. Hardly any value, reason or row comes twice, and none is looked for by its bounds.
WRITING: Mapping[str, Any] = MappingProxyType(
    {"use_dictionary": ["file", "column"], "write_statistics": ["row_id", "line", "column"]}
)
# Of a row group nothing can be passed over: a page of rejects takes the time of some groups.
GROUP_ROWS = 8192
MAX_REASONS = 100
_HEADERS = b"lakegate.headers"
_WHOLE = r"^\s*[+-]?[0-9]+\s*$"
_NUMBER = r"^\s*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?\s*$"
_SHOWN_CHARACTERS = 60


class Errors:
    """The errors of one block, gathered by column, then put in file order."""

    def __init__(self, file: str, split: Split) -> None:
        self._file = file
        self._split = split
        self._parts: list[pa.Table] = []
        self.reasons: Counter[str] = Counter()

    def add_broken(self, broken: Sequence[Broken]) -> None:
        """Records that are no rows."""
        if not broken:
            return
        self.reasons.update(f"{item.column}: {item.reason}" if item.column else item.reason for item in broken)
        where = pa.array([item.index for item in broken], pa.int64())
        texts = ([item.column for item in broken], [item.value for item in broken], [item.reason for item in broken])
        self._parts.append(self._part(where, *(pa.array(text, pa.string()) for text in texts)))

    def add_values(self, indices: Any, column: str, values: Any, rule: Reading) -> None:
        """Values of `column` that don't fit its `rule`; null: a value is required."""
        for written, what in ((_WHOLE, rule.range), (_NUMBER, rule.beyond)):
            if what is None:
                continue
            large = pc.fill_null(pc.match_substring_regex(values, written), False)
            if pc.any(large).as_py():
                self._add(indices.filter(large), column, values.filter(large), what)
                rest = pc.invert(large)
                indices, values = indices.filter(rest), values.filter(rest)
        if len(values):
            self._add(indices, column, values, f"not {rule.noun}")

    def _add(self, indices: Any, column: str, values: Any, what: str) -> None:
        missing = values.null_count
        if missing < len(values):
            self.reasons[f"{column}: {what}"] += len(values) - missing
        if missing:
            self.reasons[f"{column}: empty, but required"] += missing
        call = pc.call_function  # the typed wrappers know no mix of arrays and constants
        shown = values
        if (pc.max(call("binary_length", [values])).as_py() or 0) > _SHOWN_CHARACTERS:
            shown = pc.utf8_slice_codeunits(values, 0, _SHOWN_CHARACTERS)
            long = call("greater", [call("utf8_length", [values]), pa.scalar(_SHOWN_CHARACTERS, pa.int32())])
            shown = pc.if_else(long, call("binary_join_element_wise", [shown, "…", ""]), shown)
        reason = call("binary_join_element_wise", ["'", shown, f"' is {what}", ""])
        if missing:
            reason = pc.fill_null(reason, "is empty, but the table requires a value")
        names = pa.repeat(pa.scalar(column), len(values))
        self._parts.append(self._part(indices, names, values, reason))

    def _part(self, indices: Any, column: Any, value: Any, reason: Any) -> pa.Table:
        return pa.table({"index": indices, "column": column, "value": _flat(value), "reason": _flat(reason)})

    def table(self) -> pa.Table:
        """As SCHEMA, with `row_id` counting from the start of the block."""
        found = pa.concat_tables(self._parts)
        if len(self._parts) > 1:
            found = found.take(pc.sort_indices(found, sort_keys=[("index", "ascending")]))
        indices = found["index"].combine_chunks()
        unique = pc.unique(indices)
        codes = pc.index_in(indices, value_set=unique)
        rows = pa.DictionaryArray.from_arrays(codes, self._split.raw(unique))
        return pa.table(
            [
                indices,
                pa.repeat(pa.scalar(self._file), len(indices)),
                self._split.lines(indices),
                found["column"].combine_chunks(),
                found["value"].combine_chunks(),
                found["reason"].combine_chunks(),
                rows,
            ],
            schema=SCHEMA,
        )


def with_headers(files: Sequence[Input]) -> pa.Schema:
    """SCHEMA, with the headers of delimited files: without it a row can't be mended and sent again."""
    headers = {found.source.name: _header(found) for found in files if found.delimiter and found.source.options.header}
    return SCHEMA.with_metadata({_HEADERS: json.dumps(headers).encode()})


def headers_of(schema: pa.Schema) -> dict[str, str]:
    """By file; a quarantine of older releases has none."""
    found: dict[str, str] = json.loads((schema.metadata or {}).get(_HEADERS, b"{}"))
    return found


def _header(found: Input) -> str:
    line = io.StringIO()
    csv.writer(line, delimiter=found.delimiter or ",", lineterminator="").writerow(found.names or ())
    return line.getvalue()


def _flat(array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def top_reasons(reasons: Counter[str]) -> Counter[str]:
    """At most MAX_REASONS of them, the most common."""
    return Counter(dict(reasons.most_common(MAX_REASONS)))
