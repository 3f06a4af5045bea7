"""Values of direct producers in Avro: a zero byte, the id of a registered schema in four bytes, the data.

The framing is the one that Kafka's schema-registry clients write. Values become lines of JSON, so that one set of rules
judges every row; logical types become the text that the table's columns are read from.
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

from lakegate_ingest.errors import BadStreamSchema

_MAGIC = 0
_FRAME = struct.Struct(">xI")
_ENCODE = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical").encode
MOST_SCHEMA_BYTES = 64 * 1024
# Values in one row beside those of its arrays, maps and unions: references make a small schema a large row.
MOST_VALUES = 10_000
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
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
        if len(msgspec.json.encode(schema)) > MOST_SCHEMA_BYTES:
            raise BadStreamSchema(f"An Avro schema has at most {MOST_SCHEMA_BYTES:,} bytes here.")
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise BadStreamSchema("A row is an Avro record: the schema's type has to be 'record'.")
        if any(key in schema for key in _PARSED):
            raise BadStreamSchema(f"The keys {' and '.join(_PARSED)} are the parser's own.")
        named: dict[str, Any] = {}
        try:
            self._schema = parse_schema(schema, named)
            _Sizes(named).check(self._schema)
        except (SchemaParseException, UnknownType, *_READ_ERRORS) as error:
            raise BadStreamSchema(f"This is no Avro schema: {type(error).__name__}: {error}"[:500]) from error

    def json(self, data: bytes) -> bytes:
        """One value as a line of JSON. Raises BadAvro."""
        stream = io.BytesIO(data)
        try:
            value: Any = fastavro.schemaless_reader(stream, self._schema, None)
            if stream.tell() != len(data):
                raise BadAvro(f"{len(data) - stream.tell()} bytes are left over behind it")
            return _ENCODE({key: _plain(item) for key, item in value.items()})
        except _READ_ERRORS as error:
            raise BadAvro(f"{type(error).__name__}: {error}"[:300]) from error


class _Sizes:
    """Refuses schemas by which a few bytes are more values than memory holds."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[bool, int]] = {}
        self._within: set[str] = set()

    def check(self, schema: Any) -> None:
        """This one and all that are defined in it. Raises BadStreamSchema."""
        if isinstance(schema, list):
            for branch in schema:
                self.check(branch)
        if not isinstance(schema, dict):
            return
        match schema["type"]:
            case "array" | "map" as kind:
                items = schema["items" if kind == "array" else "values"]
                if self._size(items)[0]:
                    raise BadStreamSchema(f"Items of an Avro {kind} have to take at least one byte each here.")
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


def _plain(value: Any) -> Any:
    """What JSON has no word for as text; bytes as hexadecimal text, as nothing else shows what they are."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
