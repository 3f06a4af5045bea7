"""What a table must not be made into: metadata that a reader could not use, or that would be another table."""

from __future__ import annotations

from pyiceberg.table.metadata import SUPPORTED_TABLE_FORMAT_VERSION, TableMetadata
from pyiceberg.table.snapshots import Snapshot

from lakegate_catalog.iceberg.dialect import BadRequest

# Years 1 to 9999 as milliseconds from 1970.
_TIMES = range(-62_135_596_800_000, 253_402_300_800_000)


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
