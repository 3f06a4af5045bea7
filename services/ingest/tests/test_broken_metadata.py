"""Metadata of tables that is not whole: what names something that is not there."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import LongType, NestedField

from lakegate_ingest.commit.committer import _Build


async def test_a_commit_to_a_table_without_its_own_partition_spec_fails_and_does_not_wait_without_end() -> None:
    metadata = new_table_metadata(
        Schema(NestedField(1, "a", LongType())), UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "file:///t", {}
    )
    build = _Build(cast(Any, SimpleNamespace(table="shop.orders", creates=False)), cast(Any, None))
    broken = metadata.model_copy(update={"default_spec_id": 7})
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(build.next(broken, attempt=0), 30)
