"""The pipe by which DuckDB gets a spooled file: it ends whenever its reader does, and says what it could not give."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakegate_ingest.engine.errors import LoadCancelled
from lakegate_ingest.engine.spoolfile import Pipe, Spool

LINES = b"1,some text\n" * 500_000  # more than a pipe holds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in-0"
    path.write_bytes(b"\xef\xbb\xbf" + LINES)
    return path


def test_the_reader_gets_all_but_what_is_skipped(file: Path, tmp_path: Path) -> None:
    reached: list[int] = []
    spool = Spool(file, skip=3, on_read=reached.append)
    with Pipe(spool, tmp_path):
        assert Path(spool.address).read_bytes() == LINES
    assert spool.failure is None
    assert reached[0] == 3
    assert reached[-1] == len(LINES) + 3


def test_a_reader_that_never_comes_is_not_waited_for(file: Path, tmp_path: Path) -> None:
    spool = Spool(file)
    with Pipe(spool, tmp_path):
        pass
    assert spool.failure is None
    assert not Path(spool.address).exists()


def test_a_reader_may_leave_before_the_end(file: Path, tmp_path: Path) -> None:
    spool = Spool(file)
    with Pipe(spool, tmp_path), Path(spool.address).open("rb") as reader:
        assert len(reader.read(1000)) == 1000
    assert spool.failure is None


def test_a_reader_that_hangs_does_not_keep_the_pipe(file: Path, tmp_path: Path) -> None:
    spool = Spool(file)
    with Pipe(spool, tmp_path):
        reader = Path(spool.address).open("rb")  # noqa: SIM115 - it stays open beyond the pipe
        reader.read(1)
    reader.close()
    assert spool.failure is None


def test_what_stops_the_reading_is_told(file: Path, tmp_path: Path) -> None:
    def stop(position: int) -> None:
        if position > 1_000_000:
            raise LoadCancelled("called off")

    spool = Spool(file, on_read=stop)
    with Pipe(spool, tmp_path):
        assert len(Path(spool.address).read_bytes()) < len(LINES)
    assert isinstance(spool.failure, LoadCancelled)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "gone")
    with Pipe(spool, tmp_path):
        assert Path(spool.address).read_bytes() == b""
    assert isinstance(spool.failure, FileNotFoundError)
