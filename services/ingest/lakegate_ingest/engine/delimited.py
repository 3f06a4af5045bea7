"""CSV and TSV blocks as text columns; rows with too many or too few fields are broken."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from lakegate_ingest.engine.batch import Batch, Broken, Records, positions_of
from lakegate_ingest.engine.inputs import Input
from lakegate_ingest.engine.records import Block, field_pattern, well_formed, without_padding

_GOES_ON = "a field has text behind its closing quote"
_GOES_ON_LATER = f"{_GOES_ON}, lines below the one it opens on: its quote is never closed, or one in it is not doubled"


def delimited_batch(block: Records, found: Input, names: Sequence[str]) -> Batch:
    broken: list[Broken] = []
    surplus: list[tuple[int, list[str | None]]] = []
    width = len(names)
    nulls = {"", *found.source.options.null_values}
    delimiter = found.delimiter or ","

    def skip(row: arrow_csv.InvalidRow) -> Literal["skip"]:
        index = (row.number or 0) - 1
        if index in unfit:
            broken.append(Broken(index, unfit[index]))
            return "skip"
        # DuckDB drops surplus fields that are null (a trailing comma); so must this path.
        fields: list[str] = []
        if row.actual_columns > width and '"' not in row.text:
            fields = row.text.rstrip("\r\n").split(delimiter)
        elif row.actual_columns > width:
            fields = next(csv.reader(io.StringIO(row.text, newline=""), delimiter=delimiter), [])
        if len(fields) == row.actual_columns > width and nulls.issuperset(fields[width:]):
            surplus.append((index, [None if field in nulls else field for field in fields[:width]]))
        else:
            broken.append(Broken(index, _ragged(row.actual_columns, width, row.text)))
        return "skip"

    columns = [f"c{position}" for position in range(width)]
    assert isinstance(block, Block)
    data, unfit = _mended(block, delimiter, width)
    if not data.strip(b"\r\n"):
        return Batch(pa.table({column: pa.array([], pa.string()) for column in columns}), None, (), block)
    table = arrow_csv.read_csv(
        io.BytesIO(data),
        read_options=arrow_csv.ReadOptions(
            column_names=columns, use_threads=False, block_size=max(len(data) + 1, 1024)
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        convert_options=arrow_csv.ConvertOptions(
            column_types={column: pa.string() for column in columns},
            null_values=["", *found.source.options.null_values],
            strings_can_be_null=True,
            check_utf8=False,  # the block was checked, with the line in the message
        ),
    )
    if surplus:
        table = _insert(table, surplus, broken)
    return Batch(table, positions_of(table.num_rows, broken), tuple(broken), block)


def _mended(block: Block, delimiter: str, width: int) -> tuple[bytes, dict[int, str]]:
    """The block's text for Arrow, which would join what stands behind a closing quote to the field.

    Spaces there are left out; records with anything else become ones of a wrong width, with the reason by index.
    """
    data, other = block.data, delimiter.encode()
    unfit: dict[int, str] = {}
    if block.quoted is None or block.well_formed:
        return data, unfit
    fields = field_pattern(delimiter)
    parts: list[bytes] = []
    index = start = 0
    for record in block.quoted.finditer(data):
        begin, end = record.start(), record.start(1)
        if begin == end:  # blank lines are none
            continue
        text = data[begin:end]
        if b'"' in text and not well_formed(text, other):
            mended = without_padding(text, fields, other)
            if mended is None:
                unfit[index] = _GOES_ON_LATER if b"\n" in text or b"\r" in text else _GOES_ON
                mended = b"x" if width > 1 else b"x%bx" % other
            parts += (data[start:begin], mended)
            start = end
        index += 1
    return b"".join((*parts, data[start:])), unfit


def _insert(table: pa.Table, rows: list[tuple[int, list[str | None]]], broken: Sequence[Broken]) -> pa.Table:
    """`table` with `rows` put back at the record that each came from."""
    gone = {item.index for item in broken} | {index for index, _ in rows}
    kept = (index for index in range(table.num_rows + len(gone)) if index not in gone)
    places = pa.array([*kept, *(index for index, _ in rows)], pa.int64())
    values = zip(*(fields for _, fields in rows), strict=True)
    more = pa.table([pa.array(column, pa.string()) for column in values], schema=table.schema)
    return pa.concat_tables([table, more]).take(pc.sort_indices(places))


def _ragged(fields: int, width: int, text: str) -> str:
    some = "1 field" if fields == 1 else f"{fields} fields"
    if text.startswith('"') and text.count('"') % 2:
        return f"a quote is opened and never closed; the row has {some}, not {width}"
    return f"the row has {some}, the header has {width}"
