"""What a table must not be made into: metadata that a reader could not use, or that would be another table.

pyiceberg applies updates, and looks at little of what they leave. Only what a request adds is looked at here: a table
that was strange before is not kept from being changed. Where the table specification leaves room, so does this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pyiceberg.exceptions import ResolveError
from pyiceberg.exceptions import ValidationError as InvalidMetadata
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema, promote
from pyiceberg.table.metadata import SUPPORTED_TABLE_FORMAT_VERSION, TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AddSortOrderUpdate,
    RemoveSchemasUpdate,
    SetPartitionStatisticsUpdate,
    SetSnapshotRefUpdate,
    SetStatisticsUpdate,
    TableUpdate,
)
from pyiceberg.transforms import BucketTransform, TruncateTransform
from pyiceberg.typedef import IcebergBaseModel
from pyiceberg.types import FixedType, IcebergType, ListType, MapType, NestedField, StructType

from lakegate_catalog.iceberg.dialect import BadRequest

# What the specification calls an int; all its other numbers are longs. Java's readers fail on a larger one.
_INTS = frozenset(
    (
        "id", "element-id", "key-id", "value-id", "schema-id", "spec-id", "field-id", "source-id", "order-id",
        "sort-order-id", "identifier-field-ids", "schema-ids", "spec-ids", "min-snapshots-to-keep",
    )
)  # fmt: skip
# Years 1 to 9999 as milliseconds from 1970.
_TIMES = range(-62_135_596_800_000, 253_402_300_800_000)


def check_numbers(request: IcebergBaseModel) -> None:
    """Raises BadRequest for a whole number that has no room where the specification puts it."""
    for name, number in _numbers("", request.model_dump()):
        bits = 32 if name in _INTS else 64
        if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
            raise BadRequest(f"{name or 'A number'} has to fit into {bits} bits, unlike {str(number)[:40]}.")


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(name, item)
    elif isinstance(value, int):
        yield name, value


def check_schema(schema: Schema, format_version: int) -> None:
    """Raises BadRequest, and what pyiceberg does of a name that is there twice or a type that the format has not."""
    seen: set[int] = set()
    for field in _fields(schema.as_struct()):
        if field.field_id in seen:
            raise BadRequest(f"The field id {field.field_id} is there twice in the schema. Give each field its own.")
        seen.add(field.field_id)
        if isinstance(field.field_type, FixedType) and len(field.field_type) >= 1 << 31:
            raise BadRequest(f"The column {field.name} can't be of type {field.field_type}: a length has 32 bits.")
    schema.column_names  # noqa: B018 - its index refuses a name that is there twice
    schema.check_format_version_compatibility(format_version)


def _fields(kind: IcebergType) -> Iterator[NestedField]:
    if isinstance(kind, StructType):
        parts: tuple[NestedField, ...] = kind.fields
    elif isinstance(kind, ListType):
        parts = (kind.element_field,)
    elif isinstance(kind, MapType):
        parts = (kind.key_field, kind.value_field)
    else:
        return
    for part in parts:
        yield part
        yield from _fields(part.field_type)


def check_bound(order: PartitionSpec | SortOrder, schemas: Sequence[Schema]) -> None:
    """Raises BadRequest, or pyiceberg's InvalidMetadata, unless `order` can be applied to rows of one of `schemas`."""
    for field in order.fields:
        transform = field.transform
        if isinstance(transform, BucketTransform) and not 0 < transform.num_buckets < 1 << 31:
            raise BadRequest(f"{transform} is no transform: the number of buckets is from 1 to 2^31 - 1.")
        if isinstance(transform, TruncateTransform) and not 0 < transform.width < 1 << 31:
            raise BadRequest(f"{transform} is no transform: the width is from 1 to 2^31 - 1.")
    if isinstance(order, PartitionSpec):
        for what, values in (("id", [f.field_id for f in order.fields]), ("name", [f.name for f in order.fields])):
            if len(values) > len(set(values)):
                raise BadRequest(f"Partition spec {order.spec_id} has two fields of one {what}: {order}.")
    reasons: list[InvalidMetadata] = []
    for schema in schemas:
        try:
            order.check_compatible(schema)
        except InvalidMetadata as error:
            reasons.append(error)
        else:
            return
    raise reasons[0]


def check_updates(updates: Sequence[TableUpdate], updated: TableMetadata, base: TableMetadata | None) -> None:
    """Raises BadRequest, and whatever pyiceberg does, if `updates`, which made `updated` out of `base`, or out of
    nothing, broke the table.
    """
    if base is not None:
        _check_change(updated, base)
    # a spec may stand before the schema that it is for, or be of a column that is gone from the newest
    schemas = [updated.schema(), *reversed(updated.schemas)]
    snapshots = {snapshot.snapshot_id for snapshot in updated.snapshots}
    before = snapshots if base is None else snapshots | {snapshot.snapshot_id for snapshot in base.snapshots}
    for update in updates:
        if isinstance(update, AddSchemaUpdate):
            _check_added(update.schema_, updated)
        elif isinstance(update, RemoveSchemasUpdate):
            for snapshot in updated.snapshots:
                if snapshot.schema_id in update.schema_ids:
                    raise BadRequest(
                        f"Schema {snapshot.schema_id} is that of snapshot {snapshot.snapshot_id}. Keep it."
                    )
        elif isinstance(update, AddPartitionSpecUpdate):
            check_bound(update.spec, schemas)
        elif isinstance(update, AddSortOrderUpdate):
            check_bound(update.sort_order, schemas)
        elif isinstance(update, AddSnapshotUpdate):
            _check_snapshot(update.snapshot, {schema.schema_id for schema in updated.schemas}, before)
        elif isinstance(update, SetSnapshotRefUpdate):
            if update.ref_name == MAIN_BRANCH and update.type != SnapshotRefType.BRANCH:
                raise BadRequest("main is a branch; a tag has to have another name.")
        elif isinstance(update, SetStatisticsUpdate):
            _check_known(update.statistics.snapshot_id, snapshots)
        elif isinstance(update, SetPartitionStatisticsUpdate):
            _check_known(update.partition_statistics.snapshot_id, snapshots)


def check_writable(metadata: TableMetadata) -> None:
    """Raises BadRequest for a version of the table format that can be read here only."""
    if metadata.format_version > SUPPORTED_TABLE_FORMAT_VERSION:
        raise BadRequest(
            f"Tables of format version {metadata.format_version} can't be written here. "
            f"Use {SUPPORTED_TABLE_FORMAT_VERSION}, which is what you get without the property format-version."
        )


def check_time(snapshot: Snapshot) -> None:
    """Raises BadRequest for a snapshot of a time that no calendar has."""
    if snapshot.timestamp_ms not in _TIMES:
        raise BadRequest(
            f"timestamp-ms of snapshot {snapshot.snapshot_id} has to be milliseconds from 1970, up to the year 9999."
        )


def _check_change(updated: TableMetadata, base: TableMetadata) -> None:
    if updated.table_uuid != base.table_uuid:
        raise BadRequest(f"The table's UUID is {base.table_uuid}, and stays so. Create another table for another UUID.")
    if updated.current_schema_id == base.current_schema_id:
        return
    before, after = base.schema(), updated.schema()
    if before.fields and not after.fields:
        raise BadRequest("A table keeps at least one column. Drop the table instead, or add the new columns first.")
    # A table that is replaced (Spark's CREATE OR REPLACE) keeps the ids of names, whatever their new types: what was
    # written under the old ones is not read with the new schema. And of an empty table nothing was written.
    if not _line(base) & _line(updated):
        return
    columns = {field.field_id: field for field in _fields(after.as_struct())}
    for field in _fields(before.as_struct()):
        kept = columns.get(field.field_id)
        if kept is not None and not _may_become(field.field_type, kept.field_type):
            raise BadRequest(
                f"The column {kept.name} (id {field.field_id}) can't change from {field.field_type} to "
                f"{kept.field_type}: what was written could not be read. Add a column with a new id instead."
            )


def _line(metadata: TableMetadata) -> set[int]:
    """The current snapshot and those that it was made from."""
    parents = {snapshot.snapshot_id: snapshot.parent_snapshot_id for snapshot in metadata.snapshots}
    line: set[int] = set()
    current = metadata.current_snapshot_id
    while current is not None and current in parents and current not in line:
        line.add(current)
        current = parents[current]
    return line


def _may_become(old: IcebergType, new: IcebergType) -> bool:
    if not (old.is_primitive and new.is_primitive):
        return type(old) is type(new)
    if old == new:
        return True
    try:
        promote(old, new)
    except ResolveError:
        return False
    return True


def _check_added(schema: Schema, updated: TableMetadata) -> None:
    check_schema(schema, updated.format_version)
    for other in updated.schemas:
        # not `other != schema`, which holds of any schema without columns
        if other.schema_id == schema.schema_id and other.model_dump() != schema.model_dump():
            raise BadRequest(
                f"Schema {schema.schema_id} is there already, with other columns. Refresh, and number it anew."
            )


def _check_snapshot(snapshot: Snapshot, schemas: set[int], before: set[int]) -> None:
    check_time(snapshot)
    if snapshot.parent_snapshot_id is not None and snapshot.parent_snapshot_id not in before:
        raise BadRequest(
            f"The parent of snapshot {snapshot.snapshot_id}, {snapshot.parent_snapshot_id}, is not in the table."
        )
    if snapshot.schema_id is not None and snapshot.schema_id not in schemas:
        raise BadRequest(f"The schema of snapshot {snapshot.snapshot_id}, {snapshot.schema_id}, is not in the table.")


def _check_known(snapshot_id: int, snapshots: set[int]) -> None:
    if snapshot_id not in snapshots:
        raise BadRequest(f"The table has no snapshot {snapshot_id} that these statistics could be of.")
