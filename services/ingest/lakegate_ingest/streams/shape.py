"""What a row of a table looks like: a quick check that most rows pass, and the rules for those that don't.

The quick check takes only values of which it is certain that the engine takes them, too. A row that it does not take
may still be right (a number written as text, another way to write a date): `screen` says what makes a record no row at
all, whatever else is read together with it, and the engine judges the values.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET
from msgspec.structs import astuple
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from lakegate_ingest.engine import EngineLimits
from lakegate_ingest.engine.inputs import MAX_NAME_CHARS
from lakegate_ingest.engine.types import reading
from lakegate_ingest.streams.requests import OnNewColumn

MOST_COLUMNS = EngineLimits().max_columns
# From here on a float or double has not every whole number, and the engine looks at how one is written.
_FLOAT_WHOLE, _DOUBLE_WHOLE = 2**24 - 1, 2**53 - 1
_Int = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Float = Annotated[float, msgspec.Meta(ge=-_FLOAT_WHOLE, le=_FLOAT_WHOLE)]
_Double = Annotated[float, msgspec.Meta(ge=-_DOUBLE_WHOLE, le=_DOUBLE_WHOLE)]
_NotEmpty = Annotated[str, msgspec.Meta(min_length=1)]  # empty text is null, which a required column does not take
_CERTAIN: dict[type[IcebergType], Any] = {
    BooleanType: bool,
    IntegerType: _Int,
    LongType: _Long,
    FloatType: _Float,
    DoubleType: _Double,
    StringType: str,
    DateType: datetime.date,
    TimeType: Annotated[datetime.time, msgspec.Meta(tz=False)],
    TimestampType: Annotated[datetime.datetime, msgspec.Meta(tz=False)],
    TimestamptzType: Annotated[datetime.datetime, msgspec.Meta(tz=True)],
    UUIDType: uuid.UUID,
}
_TIMES = (TimeType, TimestampType, TimestamptzType)
# What the quick check's decoder reads and the engine may refuse. Each expression begins with a colon, which is quickly
# found. Of a time: finer than a microsecond, a small t or z, 18 hours from UTC or more, beyond the years by its offset.
_UNCERTAIN_TIME = re.compile(
    rb":(?<=\d:)(?:\d\d(?:[.,]\d{7}|(?:[.,]\d*)?(?:z|[+-](?:1[89]|2)))|(?<=\dt\d\d:)"
    rb"|(?<=(?:0001-01-01|9999-12-31)[T ]\d\d:)\d\d:\d\d(?:[.,]\d*)?[+-])"
)
# A character of a time that is written as an escape: those of +,-. and 0-9: and T, Z, t, z and the space.
_ESCAPED_TIME = re.compile(rb"\\u00(?:2[0bBcCdDeE]|3[0-9aA]|[57][4aA])")
# A number that a float, or a double, may only hold as 0.
_TINY_FLOAT = re.compile(rb":[ \t\r\n]*-?(?:[0-9.]*[eE]-0*(?:[2-9][0-9]|[0-9]{3})|0\.0{15})")
_TINY_DOUBLE = re.compile(rb":[ \t\r\n]*-?(?:[0-9.]*[eE]-[0-9]{3}|0\.0{200})")
_MAY_BE_TINY = (b"e-", b"E-", b"0.0000000000")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_SPACED = (b'" :', b'"\t:', b'"\r:', b'"\n:')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A column of another name may be there, of an engine or of a key with escapes; the quick check's decoder can't have it.
_CERTAIN_NAME = re.compile(rf'[^"\\\x00-\x1f\x7f]{{1,{MAX_NAME_CHARS}}}')
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Shape:
    """The rows of a table of `schema`."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._known = {field.name.casefold(): field for field in schema.fields}
        self._unfillable = {name for name, field in self._known.items() if reading(field.field_type) is None}
        self._required = [field.name for field in schema.fields if field.required]
        self._has_times = any(isinstance(field.field_type, _TIMES) for field in schema.fields)
        self._quick, self._width = _quick_decoder(schema)
        kinds = {type(field.field_type) for field in schema.fields}
        self._tiny = _TINY_FLOAT if FloatType in kinds else _TINY_DOUBLE if DoubleType in kinds else None

    def uncertain(self, rows: Sequence[bytes]) -> list[int]:
        """The rows that the quick check does not take, by index."""
        if self._quick is None:
            return list(range(len(rows)))
        decode, width = self._quick.decode, self._width
        found = []
        taken: list[tuple[int, int]] = []
        for index, row in enumerate(rows):
            try:
                values = astuple(decode(row))
            except (ValueError, RecursionError):  # a DecodeError is a ValueError, and so is text that is no UTF-8
                found.append(index)
                continue
            keys = width - values.count(UNSET)
            if keys == values.count(None):  # a row without any value
                found.append(index)
            else:
                taken.append((index, keys))
        # looked at in one piece, which is quick, and one by one only where something is found
        if not self._is_read_alike(b"\n".join([rows[index] for index, _ in taken]), sum(keys for _, keys in taken)):
            found += [index for index, keys in taken if not self._is_read_alike(rows[index], keys)]
            found.sort()
        return found

    def _is_read_alike(self, text: bytes, keys: int) -> bool:
        """Whether the engine reads rows with so many keys as their decoder did, which takes the last of equal keys."""
        if self._tiny is not None and any(part in text for part in _MAY_BE_TINY) and self._tiny.search(text):
            return False
        if self._has_times and _UNCERTAIN_TIME.search(text):
            return False
        if self._has_times and b"\\u00" in text and _ESCAPED_TIME.search(text):
            return False
        # as many as there are keys at least, if nobody puts spaces in front of colons; texts may have more
        if text.count(b'":') == keys and not any(part in text for part in _SPACED):
            return True
        return _STRING.sub(b"", text).count(b":") == keys

    def screen(self, row: bytes, on_new_column: OnNewColumn) -> tuple[str | None, str] | None:
        """Why a record can't be a row, as column (None: all of it) and reason; None when its values may be judged."""
        wrong = self.what_is_wrong(row)
        if wrong is not None:
            return wrong
        keys = list(_OBJECT.decode(row))
        if not any(key.casefold() in self._known for key in keys):
            return None, f"none of its keys is a column of the table: {', '.join(keys[:5])[:200]}"
        fresh = 0
        for key in keys:
            folded = key.casefold()
            if folded in self._unfillable:
                kind = self._known[folded].field_type
                return key, f"the column is {kind}, which JSON can't fill: leave it out"
            if folded in self._known:
                continue
            fresh += 1
            if on_new_column == "reject":
                return key, "the table has no such column, and the stream adds none (on_new_column=reject)"
        if fresh + len(self._known) > MOST_COLUMNS:
            return None, f"the table would have more than {MOST_COLUMNS:,} columns"
        present = {key.casefold() for key in keys}
        for name in self._required:
            if name.casefold() not in present:
                return name, "the column is required, and missing"
        return None

    @staticmethod
    def what_is_wrong(row: bytes) -> tuple[str | None, str] | None:
        """What makes a record no row of any table."""
        try:
            row.decode()  # the values are not looked at here, and an invalid byte makes them no JSON (RFC 8259, 8.1)
        except UnicodeDecodeError as error:
            return None, f"not valid UTF-8: {error.reason} at byte {error.start} of the row"
        try:
            keys = list(_OBJECT.decode(row))
        except (ValueError, RecursionError):
            return None, _what_it_is(row)
        if not keys:
            return None, "the object is empty"
        for key in keys:
            if len(key) > MAX_NAME_CHARS:
                return None, f"a key has {len(key):,} characters, and columns' names {MAX_NAME_CHARS} at most"
            if not key or _CONTROL.search(key):
                return key, "the key is empty or has a control character"
        return None


def _quick_decoder(schema: Schema) -> tuple[msgspec.json.Decoder[Any] | None, int]:
    """The decoder of certain rows (None: no row can be certain), and how many keys it knows."""
    fields: list[Any] = []
    for position, field in enumerate(schema.fields):
        kind = _CERTAIN.get(type(field.field_type)) if _CERTAIN_NAME.fullmatch(field.name) else None
        if kind is None and field.required:
            return None, 0
        if kind is None:
            continue  # its values are for the engine: a row that has one is not certain
        if field.required:
            kind = _NotEmpty if kind is str else kind
            fields.append((f"f{position}", kind, msgspec.field(name=field.name)))
        else:
            kind = kind | None | msgspec.UnsetType
            fields.append((f"f{position}", kind, msgspec.field(default=UNSET, name=field.name)))
    if not fields:
        return None, 0
    row = msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False, kw_only=True)
    return msgspec.json.Decoder(row), len(fields)


def _what_it_is(row: bytes) -> str:
    try:
        value = msgspec.json.decode(row)
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}"
    kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return f"not a JSON object but {kinds.get(type(value), 'a number')}"
