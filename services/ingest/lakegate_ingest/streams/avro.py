"""Values of direct producers in Avro: a zero byte, the id of a registered schema in four bytes, the data.

The framing is the one that Kafka's schema-registry clients write. Values become lines of JSON, so that one set of rules
judges every row; logical types become the text that the table's columns are read from. A column that the table lacks
is of the type that the schema declares.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from typing import Any

import fastavro
import msgspec
from fastavro.schema import SchemaParseException, UnknownType, parse_schema
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
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

from lakegate_ingest.errors import BadStreamSchema

_MAGIC = 0
_FRAME = struct.Struct(">xI")
_ENCODE = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode
MOST_SCHEMA_BYTES = 64 * 1024
# Values in one row beside those of its arrays, maps and unions: references make a small schema a large row.
MOST_VALUES = 10_000
# Values that one row may turn out to have, by its length and its schema; then it is not decoded at all.
MOST_DECODED_VALUES = 2_000_000
# One row as a line of JSON, with the names of its fields.
MOST_DECODED_BYTES = 8 << 20
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
MOST_PRECISION = 38
# Bytes become hexadecimal text, and what has parts the JSON of it.
_COLUMNS: dict[str, IcebergType] = {
    "boolean": BooleanType(), "int": IntegerType(), "long": LongType(), "float": FloatType(), "double": DoubleType(),
    "string": StringType(), "enum": StringType(), "bytes": StringType(), "fixed": StringType(),
    "array": StringType(), "map": StringType(), "record": StringType(), "error": StringType(),
}  # fmt: skip
_LOGICAL: dict[str, IcebergType] = {
    "int-date": DateType(), "int-time-millis": TimeType(), "long-time-micros": TimeType(), "string-uuid": UUIDType(),
    "long-timestamp-millis": TimestamptzType(), "long-timestamp-micros": TimestamptzType(),
    "long-local-timestamp-millis": TimestampType(), "long-local-timestamp-micros": TimestampType(),
}  # fmt: skip
# Columns that hold each value of several types as it is; text is what holds the others (a double not every long).
_WIDER: tuple[tuple[set[IcebergType], IcebergType], ...] = (
    ({IntegerType(), LongType()}, LongType()),
    ({IntegerType(), FloatType(), DoubleType()}, DoubleType()),
)
_PARSED = ("__fastavro_parsed", "__named_schemas")
_READ_ERRORS = (
    EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, struct.error, AssertionError,
    ArithmeticError, RecursionError,
)  # fmt: skip


class BadAvro(Exception):
    """Data that is no value of its schema; the message says how."""


def is_framed(value: bytes) -> bool:
    """Whether it is Avro: JSON never begins with a zero byte."""
    return len(value) >= _FRAME.size and value[0] == _MAGIC


def split_frame(value: bytes) -> tuple[int, bytes]:
    """Schema id and data of a framed value."""
    return _FRAME.unpack_from(value)[0], value[_FRAME.size :]


def frame(schema_id: int, data: bytes) -> bytes:
    """The other way."""
    return _FRAME.pack(schema_id) + data


class AvroReader:
    """Reads values of one schema, a record."""

    def __init__(self, schema: Any) -> None:
        """Raises BadStreamSchema."""
        try:
            size = len(msgspec.json.encode(schema))
        except _READ_ERRORS as error:
            raise BadStreamSchema(f"This is no Avro schema: {type(error).__name__}: {error}"[:500]) from error
        if size > MOST_SCHEMA_BYTES:
            raise BadStreamSchema(f"An Avro schema has at most {MOST_SCHEMA_BYTES:,} bytes here.")
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise BadStreamSchema("A row is an Avro record: the schema's type has to be 'record'.")
        if any(key in schema for key in _PARSED):
            raise BadStreamSchema(f"The keys {' and '.join(_PARSED)} are the parser's own.")
        named: dict[str, Any] = {}
        try:
            parsed: Any = parse_schema(schema, named)
            self._schema = parsed
            sizes = _Sizes(named)
            sizes.check(self._schema)
            self._fewest, self._per_byte = sizes.values(self._schema), sizes.per_byte
            self.columns = {field["name"]: _column(field["type"], named) for field in parsed["fields"]}
        except (SchemaParseException, UnknownType, *_READ_ERRORS) as error:
            raise BadStreamSchema(f"This is no Avro schema: {type(error).__name__}: {error}"[:500]) from error

    def json(self, data: bytes) -> bytes:
        """One value as a line of JSON. Raises BadAvro."""
        if self._fewest + self._per_byte * len(data) > MOST_DECODED_VALUES:
            raise BadAvro(f"it may hold more than {MOST_DECODED_VALUES:,} values")
        stream = io.BytesIO(data)
        try:
            value: Any = fastavro.schemaless_reader(stream, self._schema, None)
            if stream.tell() != len(data):
                raise BadAvro(f"{len(data) - stream.tell()} bytes are left over behind it")
            return _ENCODE(_Plain().of(value))
        except _READ_ERRORS as error:
            raise BadAvro(f"{type(error).__name__}: {error}"[:300]) from error


def _column(declared: Any, named: Mapping[str, Any]) -> IcebergType | None:
    """The type of a column for all values of this one, whichever come first; None where there are none but null."""
    if isinstance(declared, list):
        kinds = {kind for branch in declared if (kind := _column(branch, named)) is not None}
        if len(kinds) <= 1:
            return next(iter(kinds), None)
        return next((wider for narrower, wider in _WIDER if kinds <= narrower), StringType())
    if isinstance(declared, str):
        return _COLUMNS.get(declared) if declared in _PRIMITIVES else _column(named[declared], named)
    kind, logical = declared["type"], declared.get("logicalType")
    if logical == "decimal" and kind in ("bytes", "fixed"):
        # the parser has looked at those that are there; of a decimal without precision no value but null can be read
        precision, scale = declared.get("precision"), declared.get("scale") or 0
        if not precision:
            return None
        return DecimalType(precision, scale) if precision <= MOST_PRECISION else StringType()
    return _LOGICAL.get(f"{kind}-{logical}") or _COLUMNS.get(kind)


class _Sizes:
    """Refuses schemas by which a few bytes are more values than memory holds.

    `per_byte`: how many values a byte may stand for. What is of no length of its own (the items of an array or map, the
    branch of a union) begins with a byte or has one, so this is the most that any of these is by itself.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[bool, int]] = {}
        self._within: set[str] = set()
        self.per_byte = 1

    def values(self, schema: Any) -> int:
        """How many values one of this schema is at least."""
        return self._size(schema)[1]

    def check(self, schema: Any) -> None:
        """This one and all that are defined in it. Raises BadStreamSchema."""
        if isinstance(schema, list):
            for branch in schema:
                self.per_byte = max(self.per_byte, self.values(branch))
                self.check(branch)
        if not isinstance(schema, dict):
            return
        match schema["type"]:
            case "array" | "map" as kind:
                items = schema["items" if kind == "array" else "values"]
                if self._size(items)[0]:
                    raise BadStreamSchema(f"Items of an Avro {kind} have to take at least one byte each here.")
                self.per_byte = max(self.per_byte, self.values(items))
                self.check(items)
            case "record" | "error":
                if self._size(schema)[1] > MOST_VALUES:
                    raise BadStreamSchema(f"An Avro record has at most {MOST_VALUES:,} values here, nested ones too.")
                for field in schema["fields"]:
                    self.check(field["type"])

    def _size(self, schema: Any) -> tuple[bool, int]:
        """Whether a value may take no byte; and how many values it is at least, itself included."""
        if isinstance(schema, list):
            # in the data a union begins with its branch; one of nothing but null has no use either
            return all(branch == "null" for branch in schema), 1
        if isinstance(schema, str):
            return (schema == "null", 1) if schema in _PRIMITIVES else self._size(self._named[schema])
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._record(schema)
        return kind == "null" or (kind == "fixed" and not schema["size"] > 0), 1

    def _record(self, schema: Any) -> tuple[bool, int]:
        name = schema["name"]
        if name in self._within:
            raise BadStreamSchema(f"The Avro record {name[:200]} always contains itself.")
        if name not in self._known:
            self._within.add(name)
            sizes = [self._size(field["type"]) for field in schema["fields"]]
            self._within.discard(name)
            self._known[name] = all(empty for empty, _ in sizes), 1 + sum(values for _, values in sizes)
        return self._known[name]


class _Plain:
    """What JSON has no word for as text; bytes as hexadecimal text, as nothing else shows what they are.

    Counts what comes of it, about: names are in each record again, and are not in the data.
    """

    def __init__(self) -> None:
        self._left = MOST_DECODED_BYTES

    def of(self, value: Any) -> Any:
        """Raises BadAvro when it becomes too large."""
        self._left -= 4
        if self._left < 0:
            raise BadAvro(f"it is more than {MOST_DECODED_BYTES:,} bytes as JSON")
        if isinstance(value, str):
            self._left -= len(value)
        elif isinstance(value, float) and not math.isfinite(value):
            return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
        elif isinstance(value, bytes):
            self._left -= 2 * len(value)
            return value.hex()
        elif isinstance(value, dict):
            self._left -= sum(map(len, value)) + 2 * len(value)
            return {key: self.of(item) for key, item in value.items()}
        elif isinstance(value, list):
            return [self.of(item) for item in value]
        return value
