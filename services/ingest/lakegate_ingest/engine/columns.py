"""Which column of the table each column of a file fills, and what the table's schema is afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import BinaryType, IcebergType, NestedField

from lakegate_ingest.engine.errors import (
    DuplicateColumn,
    IncompatibleColumn,
    MissingColumn,
    NewColumn,
    NoMatchingColumn,
    TooManyColumns,
    UnsupportedColumn,
)
from lakegate_ingest.engine.inference import is_bytes
from lakegate_ingest.engine.inputs import Input
from lakegate_ingest.engine.model import Format, OnNewColumn
from lakegate_ingest.engine.precision import holds
from lakegate_ingest.engine.types import parquet_reading, reading


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one file: `source` is its name there, `field` what it becomes."""

    source: str
    field: NestedField
    inferred: bool

    @property
    def kind(self) -> IcebergType:
        return self.field.field_type


@dataclass(frozen=True, slots=True)
class Plan:
    """`columns[i]` are those of the i-th input, in file order."""

    schema: Schema
    new_columns: tuple[str, ...]
    columns: tuple[tuple[Column, ...], ...]


def make_plan(
    inputs: Sequence[Input],
    names: Sequence[Sequence[str]],
    kinds: Mapping[str, IcebergType],
    schema: Schema | None,
    on_new_column: OnNewColumn,
    last_column_id: int | None,
) -> Plan:
    """Match each input's `names` to `schema`: by exact name, else by name without regard to case.

    `kinds` gives the types of columns that the table lacks, by casefolded name. They are added as optional
    columns with fresh ids above `last_column_id`. Raises NewColumn, NoMatchingColumn, MissingColumn,
    UnsupportedColumn, IncompatibleColumn.
    """
    planner = _Planner(schema, kinds, on_new_column, last_column_id)
    columns = tuple(planner.columns_of(found, own) for found, own in zip(inputs, names, strict=True))
    return Plan(planner.grown(), tuple(field.name for field in planner.new.values()), columns)


class _Planner:
    """The columns that the files before have brought are there for the next one."""

    def __init__(
        self,
        schema: Schema | None,
        kinds: Mapping[str, IcebergType],
        on_new_column: OnNewColumn,
        last_column_id: int | None,
    ) -> None:
        self._schema = schema
        self._kinds = kinds
        self._on_new_column = on_new_column
        self._last_id = max(last_column_id or 0, schema.highest_field_id if schema is not None else 0)
        self._fields: tuple[NestedField, ...] = schema.fields if schema is not None else ()
        self._index = _index(self._fields)
        self.new: dict[int, NestedField] = {}

    def columns_of(self, found: Input, names: Sequence[str]) -> tuple[Column, ...]:
        file = found.source.name
        if self._schema is not None and not any(_match(self._index, name) for name in names):
            raise NoMatchingColumn(
                f"None of the columns of '{file}' is in the table. The file has {_listed(names)}; the table has "
                f"{_listed([field.name for field in self._fields])}. Check the table's name, the header and the "
                "delimiter."
            )
        taken: dict[int, Column] = {}
        for name in names:
            field = _match(self._index, name) or self._add(name, file)
            if field.field_id in taken:
                raise DuplicateColumn(
                    f"The columns '{taken[field.field_id].source}' and '{name}' of '{file}' both fill the table's "
                    f"'{field.name}'. Rename or remove one of them."
                )
            _check_fillable(field, name, found)
            taken[field.field_id] = Column(name, field, inferred=field.field_id in self.new)
        for field in self._fields:
            if field.required and field.field_id not in taken:
                raise MissingColumn(f"'{file}' lacks the column '{field.name}', which the table requires. Add it.")
        return tuple(taken.values())

    def grown(self) -> Schema:
        if self._schema is None:
            return Schema(*self.new.values())
        kept = {"schema_id": self._schema.schema_id, "identifier_field_ids": self._schema.identifier_field_ids}
        return Schema(*self._fields, *self.new.values(), **kept)

    def _add(self, name: str, file: str) -> NestedField:
        if self._schema is not None and self._on_new_column == "reject":
            raise NewColumn(
                f"'{file}' has the column '{name}', which the table does not have. Remove it, or send "
                "on_new_column=evolve to add it."
            )
        self._last_id += 1
        field = NestedField(self._last_id, name, self._kinds[name.casefold()], required=False)
        self.new[field.field_id] = field
        self._index[name] = self._index[name.casefold()] = field
        return field


def positional_names(found: Input, schema: Schema) -> tuple[str, ...]:
    """A file without header fills the table's columns from left to right."""
    assert found.names is not None
    if len(found.names) > len(schema.fields):
        raise TooManyColumns(
            f"'{found.source.name}' has no header and {len(found.names)} columns, the table has "
            f"{len(schema.fields)}. Add a header, or remove what is too much."
        )
    return tuple(field.name for field in schema.fields[: len(found.names)])


def match(schema: Schema, name: str) -> NestedField | None:
    """The table's column that a file's column `name` fills."""
    return _match(_index(schema.fields), name)


def _index(fields: Sequence[NestedField]) -> dict[str, NestedField]:
    index: dict[str, NestedField] = {}
    for field in fields:
        index.setdefault(field.name.casefold(), field)
    for field in fields:
        index[field.name] = field
    return index


def _match(index: Mapping[str, NestedField], name: str) -> NestedField | None:
    return index.get(name) or index.get(name.casefold())


def _check_fillable(field: NestedField, name: str, found: Input) -> None:
    if found.arrow is not None:
        kind = found.arrow.field(name).type
        if holds(kind, pa.types.is_duration):
            raise IncompatibleColumn(
                f"The column '{name}' of '{found.source.name}' is {kind}: tables have no type for a duration. Cast it "
                "before sending: to a whole number with the unit in the column's name, or to text."
            )
        if holds(kind, _is_wide_decimal):
            raise IncompatibleColumn(
                f"The column '{name}' of '{found.source.name}' is {kind}: a decimal has at most 38 digits here. "
                "Cast it before sending: to a decimal of 38 digits, or to text."
            )
        if (
            is_bytes(kind) != isinstance(field.field_type, BinaryType)
            and kind != pa.uuid()
            and not pa.types.is_null(kind)
        ):
            raise IncompatibleColumn(
                f"The column '{name}' of '{found.source.name}' is {kind}, the table's '{field.name}' is "
                f"{field.field_type}. Cast it before sending, or load it into another column."
            )
    rule = reading(field.field_type) if found.format is not Format.PARQUET else parquet_reading(field.field_type)
    if rule is not None:
        return
    raise UnsupportedColumn(
        f"The table's column '{field.name}' is {field.field_type}, which {found.format} can't fill. "
        f"Leave the column out of '{found.source.name}'."
    )


def _is_wide_decimal(kind: pa.DataType) -> bool:
    """DuckDB reads decimals of more than 38 digits as doubles, and wrong ones."""
    return isinstance(kind, pa.Decimal256Type) and kind.precision > 38


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
