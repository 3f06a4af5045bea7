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
    fields: list[NestedField] = list(schema.fields) if schema is not None else []
    next_id = max(last_column_id or 0, schema.highest_field_id if schema is not None else 0) + 1
    existing = _index(fields)
    new: dict[int, NestedField] = {}
    columns: list[tuple[Column, ...]] = []
    for found, own in zip(inputs, names, strict=True):
        taken: dict[int, str] = {}
        mapped: list[Column] = []
        if schema is not None and not any(_match(existing, name) for name in own):
            raise NoMatchingColumn(
                f"None of the columns of '{found.source.name}' is in the table. The file has {_listed(own)}; the "
                f"table has {_listed([field.name for field in fields])}. Check the table's name, the header and "
                "the delimiter."
            )
        for name in own:
            field = _match(existing, name)
            if field is None:
                if schema is not None and on_new_column == "reject":
                    raise NewColumn(
                        f"'{found.source.name}' has the column '{name}', which the table does not have. Remove it, "
                        "or send on_new_column=evolve to add it."
                    )
                field = NestedField(field_id=next_id, name=name, field_type=kinds[name.casefold()], required=False)
                next_id += 1
                new[field.field_id] = field
                existing[name] = existing[name.casefold()] = field
            if field.field_id in taken:
                raise DuplicateColumn(
                    f"The columns '{taken[field.field_id]}' and '{name}' of '{found.source.name}' both fill the "
                    f"table's '{field.name}'. Rename or remove one of them."
                )
            taken[field.field_id] = name
            _check_fillable(field, name, found)
            mapped.append(Column(name, field, inferred=field.field_id in new))
        for field in fields:
            if field.required and field.field_id not in taken:
                raise MissingColumn(
                    f"'{found.source.name}' lacks the column '{field.name}', which the table requires. Add it."
                )
        columns.append(tuple(mapped))
    if schema is None:
        result = Schema(*new.values())
    else:
        result = Schema(
            *fields,
            *new.values(),
            schema_id=schema.schema_id,
            identifier_field_ids=schema.identifier_field_ids,
        )
    return Plan(result, tuple(field.name for field in new.values()), tuple(columns))


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
