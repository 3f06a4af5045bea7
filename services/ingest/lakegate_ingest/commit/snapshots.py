"""An append built by hand: data files from their footers, one manifest, a manifest list, and the catalog's updates.

pyiceberg's own transaction retries by itself and picks its own snapshot id; exactly-once needs both in our hands. The
manifest is written once a load; an attempt that lost the race writes only a new manifest list.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import (
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AddSortOrderUpdate,
    AssertCreate,
    AssertCurrentSchemaId,
    AssertLastAssignedFieldId,
    AssertRefSnapshotId,
    AssertTableUUID,
    AssignUUIDUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetLocationUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
    UpgradeFormatVersionUpdate,
    update_table_metadata,
)

from lakegate_ingest.commit.manifests import readable_manifests
from lakegate_ingest.commit.warehouse import join

LOAD_ID = "lakegate.load-id"
COMPRESSION: AvroCompressionCodec = "deflate"


@dataclass(frozen=True)
class Append:
    """What a commit sends, and the manifest list written for it."""

    requirements: list[TableRequirement]
    updates: list[TableUpdate]
    manifest_list: str


def manifest_url(metadata: TableMetadata, load_id: str, attempt: int) -> str:
    return join(metadata.location, "metadata", f"{load_id}-{attempt}-m0.avro")


def manifest_list_prefix(snapshot_id: int) -> str:
    return f"snap-{snapshot_id}-"


def schema_updates(
    base: TableMetadata, schema: Schema, *, new: bool
) -> tuple[list[TableRequirement], list[TableUpdate]]:
    """What makes `schema` the current one: nothing when it is; for a staged table (`new`), all that creates it."""
    if new:
        return [AssertCreate()], _creation(base)
    # The schema is asserted for a plain append too: an attempt whose answer was lost must not come through after the
    # schema has moved and the file is being read again.
    requirements: list[TableRequirement] = [
        AssertTableUUID(uuid=base.table_uuid),
        AssertCurrentSchemaId(current_schema_id=base.current_schema_id),
    ]
    if schema.fields == base.schema().fields:
        return requirements, []
    requirements.append(AssertLastAssignedFieldId(last_assigned_field_id=base.last_column_id))
    known = [known for known in base.schemas if known.fields == schema.fields]
    if known:
        return requirements, [SetCurrentSchemaUpdate(schema_id=known[0].schema_id)]
    schema_id = max(known.schema_id for known in base.schemas) + 1
    added = Schema(*schema.fields, schema_id=schema_id, identifier_field_ids=base.schema().identifier_field_ids)
    return requirements, [AddSchemaUpdate(schema_=added), SetCurrentSchemaUpdate(schema_id=-1)]


def _creation(staged: TableMetadata) -> list[TableUpdate]:
    """The updates of Iceberg's create transaction (REST spec, 'updateTable' with assert-create)."""
    updates: list[TableUpdate] = [
        AssignUUIDUpdate(uuid=staged.table_uuid),
        UpgradeFormatVersionUpdate(format_version=staged.format_version),
        AddSchemaUpdate(schema_=staged.schema()),
        SetCurrentSchemaUpdate(schema_id=-1),
        AddPartitionSpecUpdate(spec=staged.spec()),
        SetDefaultSpecUpdate(spec_id=-1),
    ]
    order = staged.sort_order_by_id(staged.default_sort_order_id)
    if order is not None:
        updates += [AddSortOrderUpdate(sort_order=order), SetDefaultSortOrderUpdate(sort_order_id=-1)]
    updates.append(SetLocationUpdate(location=staged.location))
    if staged.properties:
        updates.append(SetPropertiesUpdate(updates=dict(staged.properties)))
    return updates


def with_schema(base: TableMetadata, updates: list[TableUpdate], *, new: bool) -> TableMetadata:
    """The metadata as it will be before the snapshot is added."""
    return base if new or not updates else update_table_metadata(base, tuple(updates))


def data_files(io: FileIO, metadata: TableMetadata, urls: list[str]) -> list[DataFile]:
    """Data files with the statistics of their footers. Raises ValueError when one does not fit the schema, and
    OverflowError for a value in them that Python has no object for."""
    return [parquet_file_to_data_file(io=io, table_metadata=metadata, file_path=url) for url in urls]


def write_data_manifest(
    io: FileIO, metadata: TableMetadata, files: list[DataFile], *, snapshot_id: int, url: str
) -> ManifestFile:
    """One manifest with all files as added; the sequence number is inherited, so it serves every attempt."""
    with write_manifest(
        format_version=metadata.format_version,
        spec=metadata.spec(),
        schema=metadata.schema(),
        output_file=io.new_output(url),
        snapshot_id=snapshot_id,
        avro_compression=COMPRESSION,
    ) as writer:
        for file in files:
            writer.add(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=snapshot_id,
                    sequence_number=None,
                    file_sequence_number=None,
                    data_file=file,
                )
            )
    return writer.to_manifest_file()


def append(
    io: FileIO,
    metadata: TableMetadata,
    manifest: ManifestFile | None,
    files: list[DataFile],
    *,
    snapshot_id: int,
    name: str,
    properties: dict[str, str],
    new: bool,
) -> Append:
    """Write the manifest list on top of `metadata` and say what to commit. `name` makes the list's file name unique.

    `manifest` None: a snapshot that adds no file.
    """
    parent = metadata.current_snapshot()
    inherited = []
    if parent is not None:
        with readable_manifests(parent):
            inherited = [kept for kept in parent.manifests(io) if kept.has_added_files() or kept.has_existing_files()]
    sequence_number = metadata.next_sequence_number()
    parent_id = parent.snapshot_id if parent is not None else None
    url = join(metadata.location, "metadata", f"{manifest_list_prefix(snapshot_id)}{name}.avro")
    with write_manifest_list(
        format_version=metadata.format_version,
        output_file=io.new_output(url),
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent_id,
        sequence_number=sequence_number,
        avro_compression=COMPRESSION,
    ) as writer:
        writer.add_manifests([*([manifest] if manifest is not None else []), *inherited])
    collector = SnapshotSummaryCollector()
    for file in files:
        collector.add_file(data_file=file, partition_spec=metadata.spec(), schema=metadata.schema())
    summary = update_snapshot_summaries(
        summary=Summary(operation=Operation.APPEND, **collector.build(), **properties),
        previous_summary=parent.summary if parent is not None else None,
    )
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent_id,
        sequence_number=sequence_number,
        timestamp_ms=max(int(time.time() * 1000), metadata.last_updated_ms if not new else 0),
        manifest_list=url,
        summary=summary,
        schema_id=metadata.current_schema_id,
    )
    reference = SetSnapshotRefUpdate(
        ref_name=MAIN_BRANCH,
        type=SnapshotRefType.BRANCH,
        snapshot_id=snapshot_id,
        max_ref_age_ms=None,
        max_snapshot_age_ms=None,
        min_snapshots_to_keep=None,
    )
    requirements: list[TableRequirement] = []
    if not new:
        requirements.append(AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=parent_id))
    return Append(requirements, [AddSnapshotUpdate(snapshot=snapshot), reference], url)


def holds_snapshot(metadata: TableMetadata, snapshot_id: int) -> bool:
    return metadata.snapshot_by_id(snapshot_id) is not None


def fits(written: Schema, current: Schema) -> bool:
    """Whether files written with `written` are right under `current`: same ids, names and types, the rest optional."""
    by_id = {field.field_id: field for field in current.fields}
    for field in written.fields:
        known = by_id.pop(field.field_id, None)
        if known is None or known.name != field.name or known.field_type != field.field_type:
            return False
        if known.required and not field.required:
            return False
    return not any(field.required for field in by_id.values())
