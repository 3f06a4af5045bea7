"""The cache of metadata files weighs what it holds."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import REGISTRY
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from lakegate_catalog.iceberg.metadata import PARSED_WEIGHT, Warehouse
from lakegate_catalog.settings import WarehouseSettings
from lakegate_chassis.objectstore import ObjectStoreSettings


def opened(folder: Path, cache_bytes: int) -> Warehouse:
    return Warehouse(WarehouseSettings(location=f"file://{folder}"), ObjectStoreSettings(), cache_bytes)


def table(warehouse: Warehouse, name: str) -> TableMetadata:
    location = f"{warehouse.root}/t/travel/{name}"
    return new_table_metadata(Schema(), UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, location)


def weight() -> float | None:
    """Of the cache of the warehouse that was opened last."""
    return REGISTRY.get_sample_value("lakegate_catalog_metadata_cache_bytes")


async def test_the_cache_weighs_what_was_read_parsed_and_let_go(tmp_path: Path) -> None:
    writer = opened(tmp_path, 1_000_000)
    documents = [await writer.write(table(writer, name), 0) for name in "abc"]
    sizes = [len(document.content) for document in documents]
    assert weight() == sum(sizes) * (1 + PARSED_WEIGHT)
    reader = opened(tmp_path, 1_000_000)
    assert weight() == 0
    for document in documents:
        await reader.read(document.location)
    assert weight() == sum(sizes)
    await reader.parse(documents[0].location)
    await reader.parse(documents[0].location)
    assert weight() == sum(sizes) + PARSED_WEIGHT * sizes[0]
    await reader.discard(documents[0])
    await reader.delete([documents[1].location])
    assert weight() == sizes[2]


async def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    writer = opened(tmp_path, 0)
    documents = [await writer.write(table(writer, name), 0) for name in "abc"]
    assert weight() == 0
    sizes = [len(document.content) for document in documents]
    reader = opened(tmp_path, sum(sizes) - 1)
    for index in (0, 1, 0, 2):
        await reader.read(documents[index].location)
    assert weight() == sizes[0] + sizes[2]
    for document in documents:
        await writer.discard(document)
    for index in (0, 2):  # from the cache, since the files are gone
        assert (await reader.read(documents[index].location)).content == documents[index].content
