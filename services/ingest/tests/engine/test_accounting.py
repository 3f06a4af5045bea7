"""Every record is in a data file or in the quarantine, whatever the file looks like."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

from lakegate_ingest import engine
from lakegate_ingest.engine import Arrival, Format, ReadOptions, Source, write
from lakegate_ingest.engine.records import read_blocks

TABLE = Schema(
    NestedField(1, "a", LongType(), required=False),
    NestedField(2, "b", StringType(), required=False),
)
LOADS = settings(  # an example is a load, several times as dear as a call
    settings.default,
    max_examples=settings.default.max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FIELDS = st.sampled_from(["1", "x", "", '"1"', '"x\ny"', '"a,b"', '"q""q"', '""', "1.5", "é", '5" pipe', '"\r\n"', " "])
ROWS = st.lists(st.lists(FIELDS, min_size=1, max_size=4).map(",".join), max_size=12)


@LOADS
@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_any_csv_is_accounted_for_with_exact_lines(load, rows: list[str], newline: str, ends: bool) -> None:
    text = newline.join(["a,b", *rows]) + (newline if ends else "")
    reader = csv.reader(io.StringIO(text, newline=""))
    expected, before = [], 0
    for record in reader:
        if record:
            expected.append((before + 1, record))
        before = reader.line_num
    expected = expected[1:]
    if not expected:
        with pytest.raises(engine.HeaderOnly):
            load(text, schema=TABLE)
        return
    loaded = load(text, schema=TABLE)
    assert loaded.result.rows_in == len(expected)
    good = [(line, record) for line, record in expected if _fits(record)]
    assert sorted(str(row) for row in loaded.rows) == sorted(str(_row(record)) for _, record in good)
    bad = {line for line, record in expected if not _fits(record)}
    assert {row["line"] for row in loaded.rejects} == bad


def _fits(record: list[str]) -> bool:
    """Surplus fields that are empty do no harm."""
    return len(record) >= 2 and not any(record[2:]) and (not record[0] or record[0] == "1")


def _row(record: list[str]) -> dict[str, object]:
    return {"a": int(record[0]) if record[0] else None, "b": record[1] or None}


VALUES = st.sampled_from([1, None, "x", "1", 1.5, True, [1], {"k": 1}, "", "é"])
LINES = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b"]), VALUES).map(json.dumps),
    st.sampled_from(["null", "[1]", "{", "", '{"a": 1} x']),
)


@LOADS
@given(st.lists(LINES, max_size=10))
def test_any_ndjson_is_accounted_for_with_exact_lines(load, lines: list[str]) -> None:
    lines = ['{"a": 1, "b": "x"}', *lines]
    loaded = load("\n".join(lines), format=Format.NDJSON, schema=TABLE)
    assert loaded.result.rows_in == sum(1 for line in lines if line)
    broken = {number for number, line in enumerate(lines, 1) if line in ("null", "[1]", "{", '{"a": 1} x')}
    assert broken <= {row["line"] for row in loaded.rejects}


def test_all_rows_bad_and_a_long_bad_stretch_before_good_rows(load) -> None:
    count = 300_000  # more than one block
    all_bad = load("a,b\n" + "x,some text that fills\n" * count, schema=TABLE)
    assert all_bad.result.rows_quarantined == count
    assert all_bad.result.data_files == ()
    assert [row["line"] for row in all_bad.rejects] == list(range(2, count + 2))
    late = load("a,b\n" + "x,some text that fills\n" * count + "1,good\n" * count, schema=TABLE)
    assert (late.result.rows_quarantined, late.result.rows_written) == (count, count)
    assert late.result.reasons == {"a: not a whole number (long)": count}


def test_quoted_blocks_keep_their_lines_over_block_borders(load) -> None:
    count = 200_000
    text = "a,b\n" + '1,"two\nlines, and more text"\n' * count + 'x,"two\nlines"\n1,ok\n'
    loaded = load(text, schema=TABLE)
    assert [row["line"] for row in loaded.rejects] == [2 + 2 * count]
    assert loaded.result.rows_written == count + 1


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1,x\n2,"y\n3,z\n', 3),
        ('a,b\n1,ok\n"2,x\n3,y\n4,z', 3),
        ('a,b\n1,"o\nk"\n2,"x ""q""\n\n3,""y', 4),
        ('a,b\n1,"cut off', 2),
        ('a,b\r\n1,"', 2),
        ("a,b\n" + "".join(f'{n},"t{n}\n' if n == 100 else f"{n},t{n}\n" for n in range(50_000)), 102),
        ("a,b\n" + '1,"quoted"\n' * 300_000 + '2,"', 300_002),  # in another block than the first
    ],
)
def test_a_quote_that_is_never_closed_is_refused_with_its_line(
    load, tmp_path: Path, text: str, line: int, counted: bool
) -> None:
    path = tmp_path / "open.csv"
    path.write_text(text, newline="")
    folders = {name: tmp_path / "load" / name for name in ("out_dir", "quarantine_dir", "work_dir")}

    def uncounted() -> None:
        write([Source(path, path.name, ReadOptions(Format.CSV))], TABLE, **folders)

    with pytest.raises(engine.UnclosedQuote, match=f"opens a field on line {line} and is never closed"):
        load(text) if counted else uncounted()
    assert not (tmp_path / "load" / "out_dir").exists()


def test_the_reader_refuses_an_unclosed_quote_whatever_was_counted(tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    path.write_text('a,b\n1,x\n2,"y\n3,z\n')
    with pytest.raises(engine.UnclosedQuote, match="on line 3 "):
        list(read_blocks(path, skip=0, delimiter=",", max_line_bytes=1000))


ODD = [  # a record, and whether it runs over two lines
    ('2,"y"z', False),
    ('"2"2,y', False),
    ('2,"y" "z"', False),
    ('2,"y\n3,"z"', True),
    ('2,"y\n"3",z', True),
]


@pytest.mark.parametrize(("record", "two_lines"), ODD)
@pytest.mark.parametrize("early", [1, 200_000])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_behind_a_closing_quote_is_quarantined(
    load, record: str, two_lines: bool, early: int, newline: str
) -> None:
    text = ("a,b\n" + "1,x\n" * early + f'{record}\n\n4,"w"\nbad,5\n').replace("\n", newline)
    loaded = load(text, schema=TABLE)
    reasons = [(row["line"], row["reason"][:44], row["row"].replace("\r", "")) for row in loaded.rejects]
    assert reasons[0] == (early + 2, "a field has text behind its closing quote" + ", l" * two_lines, record)
    assert reasons[1][0] == early + 5 + two_lines
    assert [row["a"] for row in loaded.rows] == [1] * early + [4]
    assert loaded.result.path == "tolerant"


def test_text_behind_a_closing_quote_is_quarantined_where_there_is_one_column(load) -> None:
    loaded = load('b\nx\n"y"z\n"w"\n"v"  \n')
    assert [row["b"] for row in loaded.rows] == ["x", "w", "v"]
    assert [(row["line"], row["row"]) for row in loaded.rejects] == [(3, '"y"z')]


@pytest.mark.parametrize("late", ["", "bad,4\n"])
def test_spaces_behind_a_closing_quote_are_no_text_whichever_path_reads_it(load, late: str) -> None:
    loaded = load('a,b\n"1" ,"x"  \n2,"y" \n3,5" pipe\n' + late, schema=TABLE)
    assert loaded.rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": '5" pipe'}]
    assert loaded.result.path == ("tolerant" if late else "typed")


def test_a_header_with_text_behind_a_closing_quote_is_refused(load) -> None:
    with pytest.raises(engine.UnclosedQuote, match="on line 2, a field has text behind"):
        load('\n"a"x,b\n1,2\n')


def _arriving(tmp_path: Path, data: bytes, format: Format, step: int, abort_at: int | None = None):
    path = tmp_path / f"arriving.{format}"
    path.write_bytes(b"")
    arrival = Arrival()

    def send() -> None:
        counter = engine.RecordCounter(ReadOptions(format))
        with path.open("ab", buffering=0) as file:
            for start in range(0, len(data), step):
                if abort_at is not None and start >= abort_at:
                    arrival.abort()
                    return
                chunk = data[start : start + step]
                file.write(chunk)
                counter.feed(chunk)
                arrival.advance(start + len(chunk))
        arrival.finish(counter.finish(), counter.malformed)

    sender = threading.Thread(target=send)
    sender.start()
    source = Source(path, path.name, ReadOptions(format), arrival=arrival)
    folder = tmp_path / "load"
    try:
        return write([source], None, out_dir=folder / "o", quarantine_dir=folder / "q", work_dir=folder / "w")
    finally:
        sender.join()


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON, Format.JSON])
@pytest.mark.parametrize("dirty", [False, True])
def test_a_file_is_read_while_it_arrives(tmp_path: Path, format: Format, dirty: bool) -> None:
    rows = 300_000
    if format is Format.CSV:
        text = "a,b\n" + "1,some text that fills it\n" * rows + ("x,y,z\n" if dirty else "")
    else:
        lines = ['{"a": 1, "b": "some text that fills it"}'] * rows + (["[1]"] if dirty else [])
        text = "\n".join(lines) if format is Format.NDJSON else "[" + ",\n".join(lines) + "]"
    result = _arriving(tmp_path, text.encode(), format, 1_000_003)
    assert result.rows_written == rows
    assert result.rows_quarantined == dirty
    assert result.path == ("tolerant" if dirty else "typed")


@pytest.mark.parametrize("abort_at", [0, 2_000_000])
def test_a_sender_that_goes_away_leaves_nothing(tmp_path: Path, abort_at: int) -> None:
    data = b"a,b\n" + b"1,some text that fills it\n" * 300_000
    with pytest.raises(engine.LoadCancelled):
        _arriving(tmp_path, data, Format.CSV, 500_000, abort_at)
    assert not (tmp_path / "load" / "o").exists()


def test_progress_counts_the_bytes_of_the_phase(load) -> None:
    seen: list[engine.Progress] = []
    text = "a,b\n" + "1,some text that fills it\n" * 700_000 + "x,y\n"
    load(text, schema=TABLE, progress=seen.append)
    assert {item.phase for item in seen} == {"typed", "tolerant"}
    assert all(item.bytes_read <= len(text) == item.bytes_total for item in seen)
    assert max(item.bytes_read for item in seen) > len(text) // 2


def test_large_loads_become_files_of_the_wanted_size(load) -> None:
    import random

    draw = random.Random(1)
    rows = "".join(f"{draw.getrandbits(60)},{draw.getrandbits(200):x}\n" for _ in range(200_000))
    for tail in ("", "x,y\n"):
        loaded = load("a,b\n" + rows + tail, schema=TABLE, limits=engine.EngineLimits(target_file_bytes=1_000_000))
        assert len(loaded.result.data_files) > 1
        assert loaded.result.rows_written == 200_000
