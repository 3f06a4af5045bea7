"""A file is read while it arrives: what is told of it meanwhile, by one thread to another, is true."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from lakegate_ingest.engine import Arrival
from lakegate_ingest.settings import BodySettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.sinks import HEAD_BYTES, FileSink

MIB = 1 << 20


def test_a_file_has_begun_once_its_format_has_a_name(tmp_path: Path) -> None:
    asked, go = threading.Event(), threading.Event()

    def opener(*_: object) -> tuple[str, None]:
        asked.set()
        assert go.wait(30)
        return "csv", None

    spool, load_id = Spool(tmp_path / "spool", 64 * MIB, 0), uuid4()
    sink = FileSink(
        spool=spool, load_id=load_id, path=spool.create(load_id) / "in-0", name="in", content_type="text/csv",
        limits=BodySettings(), opener=opener,
    )  # fmt: skip
    with ThreadPoolExecutor(1) as writer:
        feeding = writer.submit(sink.feed, [b"a,b\n" * HEAD_BYTES])
        assert asked.wait(30)
        meanwhile = sink.begun
        go.set()
        feeding.result(30)
    assert meanwhile is None
    assert sink.begun is not None
    assert sink.begun.format == "csv"
    sink.abort()


def test_a_late_word_of_less_takes_nothing_back() -> None:
    arrival = Arrival()
    arrival.advance(2000)
    arrival.advance(1000)
    assert arrival.wait_past(1500) == 2000
