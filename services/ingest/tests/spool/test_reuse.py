"""Files of loads that have ended are written over by the next: what is read is only what was sent."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.errors import SpoolFull
from lakegate_ingest.settings import BodySettings, SpoolSettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.sinks import FileSink

MIB = 1 << 20
QUOTA = 400 * MIB


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", QUOTA, 64 * MIB)


def sink(spool: Spool, expected_bytes: int | None, load_id: UUID | None = None) -> FileSink:
    load_id = load_id or uuid4()
    return FileSink(
        spool=spool, load_id=load_id, path=spool.create(load_id) / "in-0", name="in", content_type="text/csv",
        limits=BodySettings(), opener=lambda *_: ("csv", None), expected_bytes=expected_bytes,
    )  # fmt: skip


def spooled(spool: Spool, body: bytes, expected_bytes: int | None = -1) -> tuple[UUID, Path, int]:
    """A load's file, by the way that bodies take; its inode tells whether it is an old one."""
    load_id = uuid4()
    file = sink(spool, len(body) if expected_bytes == -1 else expected_bytes, load_id)
    for start in range(0, len(body), MIB):
        file.feed([body[start : start + MIB]])
    path = file.close().path
    return load_id, path, path.stat().st_ino


@pytest.mark.parametrize("size", [9 * MIB, 10 * MIB, 12 * MIB + 1], ids=["shorter", "as long", "longer"])
def test_the_next_file_is_written_over_an_old_one(spool: Spool, size: int) -> None:
    load_id, _, inode = spooled(spool, b"old " * (10 * MIB // 4))
    spool.remove(load_id)
    assert spool.reuse.kept_bytes == 10 * MIB
    assert spool.used_bytes == 0
    body = os.urandom(size)
    _, path, again = spooled(spool, body)
    assert again == inode
    assert path.read_bytes() == body
    assert spool.reuse.kept_bytes == 0


def test_what_is_sent_short_or_packed_leaves_nothing_old_behind(spool: Spool) -> None:
    load_id, _, inode = spooled(spool, b"old " * (10 * MIB // 4))
    spool.remove(load_id)
    packed = gzip.compress(b"")
    _, path, again = spooled(spool, packed, 10 * MIB)
    assert again == inode
    assert path.read_bytes() == b""


def test_the_file_that_fits_best_is_taken(spool: Spool) -> None:
    inodes = {}
    ids = []
    for size in (9, 20, 12):
        load_id, _, inodes[size] = spooled(spool, bytes(size * MIB))
        ids.append(load_id)
    for load_id in ids:
        spool.remove(load_id)
    assert spool.reuse.kept_bytes == 41 * MIB
    assert spooled(spool, bytes(11 * MIB))[2] == inodes[12]
    assert spooled(spool, bytes(30 * MIB))[2] == inodes[20]


@pytest.mark.parametrize("expected_bytes", [None, MIB], ids=["of unknown length", "small"])
def test_files_of_a_body_that_is_not_worth_it_are_new(spool: Spool, expected_bytes: int | None) -> None:
    load_id, _, inode = spooled(spool, bytes(10 * MIB))
    spool.remove(load_id)
    assert spooled(spool, bytes(MIB), expected_bytes)[2] != inode
    assert spool.reuse.kept_bytes == 10 * MIB


def test_no_more_is_kept_than_is_allowed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", QUOTA, 15 * MIB)
    ids = [spooled(spool, bytes(10 * MIB))[0] for _ in range(2)]
    for load_id in ids:
        spool.remove(load_id)
    assert spool.reuse.kept_bytes == 10 * MIB
    assert sum(file.stat().st_size for file in (tmp_path / "spool").rglob("*") if file.is_file()) == 10 * MIB


def test_what_is_kept_makes_room_within_the_quota(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 40 * MIB, 64 * MIB)
    load_id, _, _ = spooled(spool, bytes(10 * MIB))
    spool.remove(load_id)
    assert spool.reuse.kept_bytes == 10 * MIB
    spooled(spool, bytes(35 * MIB), None)
    assert spool.reuse.kept_bytes == 0
    with pytest.raises(SpoolFull):
        spooled(spool, bytes(6 * MIB))


def test_what_is_kept_makes_room_on_a_disk_that_is_full(disk_of: Callable[[int], Path]) -> None:
    disk = disk_of(60)
    spool = Spool(disk / "spool", QUOTA, 9 * MIB)
    load_id, _, _ = spooled(spool, bytes(9 * MIB))
    spool.remove(load_id)
    assert spool.reuse.kept_bytes == 9 * MIB
    body = os.urandom(55 * MIB)
    assert spooled(spool, body, None)[1].read_bytes() == body
    assert spool.reuse.kept_bytes == 0


async def test_loads_one_after_the_other_have_each_its_own_rows(
    settings: Any, catalog: Any, tmp_path: Path, make: Any, tenant: str
) -> None:
    folder = tmp_path / "spool"
    made = settings(catalog.url, folder, spool=SpoolSettings(dir=folder))
    async with serving(create_app(made)) as url:
        api = make(url, tenant)
        for name, rows in (("first", 700_000), ("second", 650_000), ("third", 700_001)):
            body = b"id,word\n" + b"".join(b"%d,%b\n" % (number, name.encode()) for number in range(rows))
            answer = await api.load(f"shop.{name}", body)
            assert answer.status_code == 201, answer.text
            assert answer.json()["rows_written"] == rows
            assert {row["word"] for row in await api.rows(f"shop.{name}", columns="word")} == {name}
            await eventually(lambda: [path.parent.name for path in folder.rglob("*-*-*")] == [".reuse"])
    # what the next process finds is not known to be in memory any more
    async with serving(create_app(made)):
        await eventually(lambda: not list(folder.rglob("*-*-*")))
