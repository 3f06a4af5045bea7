"""Files that a snapshot names are nobody's orphans, also after the snapshot that added them has expired."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import RemoveSnapshotsUpdate, update_table_metadata
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

from lakegate_chassis.objectstore import ObjectStoreSettings
from lakegate_ingest.commit import snapshots
from lakegate_ingest.commit.files import TableFiles
from lakegate_ingest.commit.warehouse import Warehouse
from lakegate_ingest.streams.sweeping import names_files


def added(metadata: TableMetadata, io: TableFiles, commit_id: UUID, snapshot_id: int, manifest: str) -> TableMetadata:
    file = DataFile.from_args(
        content=DataFileContent.DATA, file_path=f"{metadata.location}/data/streams/{commit_id}-0.parquet",
        file_format=FileFormat.PARQUET, partition=Record(), record_count=1, file_size_in_bytes=100, spec_id=0,
    )  # fmt: skip
    file.spec_id = 0
    written = snapshots.write_data_manifest(
        io, metadata, [file], snapshot_id=snapshot_id, url=f"{metadata.location}/metadata/{manifest}-m0.avro"
    )
    append = snapshots.append(
        io, metadata, written, [file], snapshot_id=snapshot_id, name="0", properties={}, new=False
    )  # fmt: skip
    return update_table_metadata(metadata, tuple(append.updates))


@pytest.mark.parametrize("rewritten", [False, True])
def test_files_of_an_expired_commit_are_found_in_later_snapshots(tmp_path: Path, rewritten: bool) -> None:
    (tmp_path / "acme" / "t" / "metadata").mkdir(parents=True)
    io = TableFiles(Warehouse(f"file://{tmp_path}", ObjectStoreSettings()), "acme", f"file://{tmp_path}/acme/t")
    metadata = new_table_metadata(
        Schema(NestedField(1, "a", LongType())), UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER,
        f"file://{tmp_path}/acme/t", {},
    )  # fmt: skip
    first, second = uuid4(), uuid4()
    # an engine may have put the entry into a manifest of its own
    metadata = added(metadata, io, first, 11, "an-engine" if rewritten else f"{first}-0")
    metadata = added(metadata, io, second, 12, f"{second}-0")
    metadata = update_table_metadata(metadata, (RemoveSnapshotsUpdate(snapshot_ids=[11]),))
    assert not snapshots.holds_snapshot(metadata, 11)
    assert names_files(metadata, io, first)
    assert names_files(metadata, io, second)
    assert not names_files(metadata, io, uuid4())
