"""Files of a table that other engines have written: what rows are read of them, and what is said where none can be."""

from __future__ import annotations

import asyncio
import errno
import struct
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyiceberg.types import StringType

from lakegate_contracts.identity import Principal
from lakegate_ingest.errors import TableFileMissing, TableFileUnreadable
from lakegate_ingest.tables.readable import readable


class Deletes(ManifestWriterV2):
    """pyiceberg writes no manifest of deletes."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def add(table: Table, content: DataFileContent, name: str, format_: FileFormat, **more: Any) -> None:
    """Commit the file `name`, which is in the table's data folder, as an engine would."""
    metadata, io = table.metadata, table.io
    snapshot_id, number = 7_000_000_000 + len(metadata.snapshots), metadata.last_sequence_number + 1
    path = f"{metadata.location}/data/{name}"
    file = DataFile.from_args(
        content=content, file_path=path, file_format=format_, partition=Record(), record_count=1,
        file_size_in_bytes=len(io.new_input(path)), spec_id=metadata.default_spec_id, **more,
    )  # fmt: skip
    kind = ManifestWriterV2 if content is DataFileContent.DATA else Deletes
    manifest = io.new_output(f"{metadata.location}/metadata/{snapshot_id}-m0.avro")
    with kind(metadata.spec(), metadata.schema(), manifest, snapshot_id, "deflate") as writer:
        writer.add_entry(
            ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file)
        )
    before = table.current_snapshot()
    assert before is not None
    manifests: list[ManifestFile] = [writer.to_manifest_file(), *before.manifests(io)]
    where = f"{metadata.location}/metadata/snap-{snapshot_id}-0.avro"
    with write_manifest_list(2, io.new_output(where), snapshot_id, before.snapshot_id, number, "deflate") as listed:
        listed.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=snapshot_id, parent_snapshot_id=before.snapshot_id, sequence_number=number,
        timestamp_ms=metadata.last_updated_ms + 1, manifest_list=where, summary=Summary(Operation.OVERWRITE),
        schema_id=metadata.current_schema_id,
    )  # fmt: skip
    points = SetSnapshotRefUpdate(ref_name=MAIN_BRANCH, type=SnapshotRefType.BRANCH, snapshot_id=snapshot_id)
    table.catalog.commit_table(
        table,
        (AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=before.snapshot_id),),
        (AddSnapshotUpdate(snapshot=snapshot), points),
    )


@pytest.fixture
async def lake(api: Any, catalog: Any, identity: Any) -> RestCatalog:
    """An engine's catalog; the table shop.orders has three rows."""
    assert (await api.load("shop.orders", b"a,b\n1,x\n2,y\n3,z\n")).status_code == 201
    principal = Principal(tenant=api.tenant, subject="ana", scopes=("datasets:write", "datasets:read"))
    token = identity.signer.mint(principal, "catalog", lifetime_seconds=600)
    return await asyncio.to_thread(RestCatalog, "lake", uri=f"{catalog.url}/iceberg", token=token)


async def test_rows_deleted_by_their_values_are_not_shown_and_that_is_said(api: Any, lake: RestCatalog) -> None:
    def delete() -> None:
        table = lake.load_table("shop.orders")
        field = table.schema().find_field("a")
        kept = pa.field("a", pa.int64(), metadata={"PARQUET:field_id": str(field.field_id)})
        with table.io.new_output(f"{table.location()}/data/gone.parquet").create() as out:
            pq.write_table(pa.table([[2]], schema=pa.schema([kept])), out)
        add(table, DataFileContent.EQUALITY_DELETES, "gone.parquet", FileFormat.PARQUET, equality_ids=[field.field_id])

    before = await asyncio.to_thread(lambda: lake.load_table("shop.orders").current_snapshot())
    assert before is not None
    await asyncio.to_thread(delete)
    for params in ({}, {"filter": "a = 3"}, {"columns": "b", "format": "csv"}):
        answer = await api.client.get("/v1/tables/shop/orders/rows", params=params)
        assert (answer.status_code, answer.json()["type"]) == (501, "/problems/deleted-by-value"), (params, answer.text)
        assert "engine" in answer.json()["detail"]
    assert len(await api.rows("shop.orders", snapshot=before.snapshot_id)) == 3


# a key in its header is said to have 2 GB
BEYOND_ITS_END = b"Obj\x01\x02" + bytes([0x80, 0xD0, 0xAC, 0xF3, 0x0E])
# of 60,000 lists within each other
DEEP = b"Obj\x01\x02\x16avro.schema\xc0\xa9\x07" + b"[" * 60_000 + b"\x00" + b"s" * 16


@pytest.mark.parametrize(
    "damage", [BEYOND_ITS_END, DEEP, b"PAR1", b""], ids=["beyond its end", "deep", "no avro", "empty"]
)
@pytest.mark.parametrize("kind", ["list", "manifest"])
async def test_a_damaged_manifest_or_list_of_them_is_named(
    api: Any, lake: RestCatalog, kind: str, damage: bytes
) -> None:
    def write() -> None:
        table = lake.load_table("shop.orders")
        snapshot = table.current_snapshot()
        assert snapshot is not None
        where = snapshot.manifest_list if kind == "list" else snapshot.manifests(table.io)[0].manifest_path
        with table.io.new_output(where).create(overwrite=True) as out:
            out.write(damage)

    await asyncio.to_thread(write)
    answer = await api.client.get("/v1/tables/shop/orders/rows")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-file-unreadable"), answer.text
    assert "/metadata/snap-" in answer.json()["detail"]
    loaded = await api.load("shop.orders", b"a,b\n4,w\n")
    if kind == "list":
        assert (loaded.status_code, loaded.json()["type"]) == (409, "/problems/table-file-unreadable"), loaded.text
    else:
        assert loaded.status_code == 201, loaded.text  # what stands in the manifests before is taken over unread


async def test_a_list_of_manifests_that_is_not_compressed_as_it_says_is_named(api: Any, lake: RestCatalog) -> None:
    def write(codec: bytes) -> None:
        snapshot = table.current_snapshot()
        assert snapshot is not None
        with table.io.new_output(snapshot.manifest_list).create(overwrite=True) as out:
            out.write(sound.replace(b"\x0edeflate", codec))

    table = await asyncio.to_thread(lake.load_table, "shop.orders")
    sound = table.io.new_input(str(table.current_snapshot().manifest_list)).open().read()  # type: ignore[union-attr]
    assert b"\x0edeflate" in sound
    answers = []
    for codec in (b"\x12zstandard", b"\x0abzip2", b"\x0csnappy"):
        await asyncio.to_thread(write, codec)
        answers += [await api.client.get("/v1/tables/shop/orders/rows"), await api.load("shop.orders", b"a,b\n4,w\n")]
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-file-unreadable"), answer.text


async def test_bounds_of_another_length_than_their_type_s_are_named(api: Any, lake: RestCatalog) -> None:
    def append() -> None:
        table = lake.load_table("shop.orders")
        with table.io.new_output(f"{table.location()}/data/foreign").create() as out:
            out.write(SOUND)
        add(table, DataFileContent.DATA, "foreign", FileFormat.PARQUET, lower_bounds={1: b"abc"}, value_counts={1: 1})

    await asyncio.to_thread(append)
    assert len(await api.rows("shop.orders")) == 4
    answer = await api.client.get("/v1/tables/shop/orders/rows", params={"filter": "a < 5"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-file-unreadable"), answer.text


def parquet(columns: dict[str, Any], *, ids: bool = True) -> bytes:
    """A file of one row whose columns have the ids 1, 2, ..."""
    fields = [
        pa.field(name, values.type, metadata={"PARQUET:field_id": str(place)} if ids else None)
        for place, (name, values) in enumerate(columns.items(), 1)
    ]
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(list(columns.values()), schema=pa.schema(fields)), out, compression="zstd")
    return out.getvalue().to_pybytes()


TEXT, NUMBER = pa.array(["q" * 100]), pa.array([9])
SOUND = parquet({"a": NUMBER, "b": TEXT})


@pytest.mark.parametrize(
    ("content", "format_", "reason"),
    [
        (b"ORC", FileFormat.ORC, "a file of ORC"),
        (b"Obj\x01", FileFormat.AVRO, "a file of AVRO"),
        (b"PAR1", FileFormat.PARQUET, "footer"),
        (SOUND[:20] + b"\xaa" * 60 + SOUND[80:], FileFormat.PARQUET, "can't be read: "),
        (parquet({"a": NUMBER, "b": TEXT}, ids=False), FileFormat.PARQUET, "field-ids"),
        (parquet({"a": TEXT, "b": TEXT}), FileFormat.PARQUET, "string to long"),
        (parquet({"a": NUMBER.cast(pa.duration("ns")), "b": TEXT}), FileFormat.PARQUET, "duration"),
        (parquet({"a": pa.array([2**64 - 1], pa.uint64()), "b": TEXT}), FileFormat.PARQUET, "not in range"),
    ],
    ids=["orc", "avro", "cut", "damaged", "no ids", "text for numbers", "duration", "beyond a long"],
)
async def test_a_file_that_no_rows_can_be_read_of_is_named(
    api: Any, lake: RestCatalog, capsys: pytest.CaptureFixture[str], content: bytes, format_: FileFormat, reason: str
) -> None:
    def append() -> None:
        table = lake.load_table("shop.orders")
        with table.io.new_output(f"{table.location()}/data/foreign").create() as out:
            out.write(content)
        add(table, DataFileContent.DATA, "foreign", format_)

    await asyncio.to_thread(append)
    capsys.readouterr()
    answer = await api.client.get("/v1/tables/shop/orders/rows")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-file-unreadable"), answer.text
    assert "/data/foreign" in answer.json()["detail"]
    assert reason in answer.json()["detail"]
    assert capsys.readouterr().out.count("table_file_unreadable") == 1
    assert (await api.load("shop.orders", b"a,b\n4,w\n")).status_code == 201


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError("gone while it was read"), TableFileMissing),
        (OSError(errno.EMFILE, "Too many open files"), OSError),
        (OSError("Corrupt snappy compressed data."), TableFileUnreadable),
    ],
    ids=["deleted meanwhile", "no more handles", "damaged"],
)
def test_only_what_is_wrong_with_a_file_is_said_of_it(error: OSError, told: type[Exception]) -> None:
    file = DataFile.from_args(
        content=DataFileContent.DATA, file_path="/warehouse/data/x.parquet", file_format=FileFormat.PARQUET
    )
    with pytest.raises(told), readable(file):
        raise error


def refooted(file: bytes, old: bytes, new: bytes) -> bytes:
    """`file` with other bytes in its footer."""
    length = int.from_bytes(file[-8:-4], "little")
    footer = file[-8 - length : -8]
    assert old in footer
    footer = footer.replace(old, new)
    return file[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1"


LARGE = 0x1122334455667788
FOOTED = parquet({"a": pa.array([LARGE]), "b": TEXT})
BOUND = struct.pack("<q", LARGE)


# in Thrift's compact form, of the schema's first column
REQUIRED = (b"\x15\x04\x25\x02\x18\x01a", b"\x15\x04\x25\x00\x18\x01a")


@pytest.mark.parametrize(
    ("damage", "params"),
    [
        (REQUIRED, {}),
        ((b"\x1c\x15\x04\x19", b"\x1c\x15\x0c\x19"), {"filter": "a > 5"}),
        ((b"\x08" + BOUND, b"\x03" + BOUND[:3]), {"filter": "a > 5"}),
    ],
    ids=["required, and nulls counted", "another type", "a bound of three bytes"],
)
async def test_a_damaged_footer_is_named_and_does_not_end_the_process(
    api: Any, lake: RestCatalog, damage: tuple[bytes, bytes], params: dict[str, str]
) -> None:
    def append() -> None:
        table = lake.load_table("shop.orders")
        with table.io.new_output(f"{table.location()}/data/foreign").create() as out:
            out.write(refooted(FOOTED, *damage))
        add(table, DataFileContent.DATA, "foreign", FileFormat.PARQUET)

    await asyncio.to_thread(append)
    answer = await api.client.get("/v1/tables/shop/orders/rows", params=params)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-file-unreadable"), answer.text
    assert "/data/foreign" in answer.json()["detail"]


async def test_a_file_that_is_sent_with_a_damaged_footer_does_not_end_the_process(api: Any) -> None:
    loaded = await api.load("shop.orders", refooted(FOOTED, *REQUIRED), params={"format": "parquet"})
    assert (loaded.status_code, loaded.json()["type"]) == (422, "/problems/truncated-parquet"), loaded.text


async def test_text_where_the_table_has_times_is_named(api: Any, lake: RestCatalog) -> None:
    def append() -> None:
        table = lake.create_table("shop.times", pa.schema([("t", pa.timestamp("us"))]))
        table.append(pa.table({"t": pa.array([0], pa.timestamp("us"))}))
        with table.io.new_output(f"{table.location()}/data/foreign").create() as out:
            out.write(parquet({"t": TEXT}))
        add(table, DataFileContent.DATA, "foreign", FileFormat.PARQUET)

    await asyncio.to_thread(append)
    answer = await api.client.get("/v1/tables/shop/times/rows")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-file-unreadable"), answer.text
    assert "/data/foreign" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("columns", "format_", "left"),
    [
        (("file_path", "pos"), FileFormat.ORC, [1, 3]),
        (("path", "pos"), FileFormat.PARQUET, None),
        (("pos", "file_path"), FileFormat.PARQUET, None),
    ],
    ids=["orc", "no paths", "numbers for paths"],
)
async def test_deletes_of_other_engines_are_applied_or_the_file_is_named(
    api: Any, lake: RestCatalog, columns: tuple[str, str], format_: FileFormat, left: list[int] | None
) -> None:
    def delete() -> None:
        table = lake.load_table("shop.orders")
        path = next(iter(table.scan().plan_files())).file.file_path
        gone = pa.table([pa.array([path]), pa.array([1])], columns)
        with table.io.new_output(f"{table.location()}/data/gone").create() as out:
            (orc if format_ is FileFormat.ORC else pq).write_table(gone, out)
        add(table, DataFileContent.POSITION_DELETES, "gone", format_)

    await asyncio.to_thread(delete)
    if left is not None:
        assert sorted(row["a"] for row in await api.rows("shop.orders", columns="a")) == left
        return
    answer = await api.client.get("/v1/tables/shop/orders/rows")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-file-unreadable"), answer.text
    assert "/data/gone" in answer.json()["detail"]


async def test_lists_and_maps_of_structs_that_are_null_stay_so(api: Any, lake: RestCatalog) -> None:
    inner = pa.struct([("a", pa.int64())])
    kinds = pa.schema([("n", pa.int64()), ("l", pa.list_(inner)), ("m", pa.map_(pa.string(), inner))])
    rows: list[dict[str, Any]] = [{"n": n, "l": None, "m": [("k", {"a": n})]} for n in range(3)]
    rows += [{"n": 3, "l": [{"a": 3}], "m": None}, {"n": 4, "l": [], "m": []}]

    def append() -> None:
        table = lake.create_table("shop.nested", kinds)
        table.append(pa.Table.from_pylist([{"n": 9, "l": [{"a": 9}], "m": []}], kinds))
        with table.update_schema() as update:
            update.add_column(("l", "element", "b"), StringType())
        with table.io.new_output(f"{table.location()}/data/foreign").create() as out:
            ids = table.metadata.schemas[0].as_arrow()
            pq.write_table(pa.Table.from_pylist(rows, ids), out)
        add(table.refresh(), DataFileContent.DATA, "foreign", FileFormat.PARQUET)

    await asyncio.to_thread(append)
    shown = {row.pop("n"): row for row in await api.rows("shop.nested", filter="n < 9")}
    assert [shown[n]["l"] for n in range(5)] == [None, None, None, [{"a": 3, "b": None}], []]
    assert [shown[n]["m"] for n in range(5)] == [[["k", {"a": 0}]], [["k", {"a": 1}]], [["k", {"a": 2}]], None, []]
    assert sorted(row["n"] for row in await api.rows("shop.nested", columns="n", filter="l is null")) == [0, 1, 2]
    assert await api.rows("shop.nested", columns="n", filter="m is null") == [{"n": 3}]
