"""Each kind of bad input that concerns the engine, and what it gets."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    LongType,
    NestedField,
    StringType,
)

from lakegate_ingest import engine
from lakegate_ingest.engine import Format, loading

TABLE = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "name", StringType(), required=False),
    NestedField(3, "day", DateType(), required=False),
)


def test_an_empty_body_is_refused(load) -> None:
    with pytest.raises(engine.EmptyBody):
        load("")
    with pytest.raises(engine.EmptyBody):
        load("\n\r\n\n")
    with pytest.raises(engine.EmptyBody):
        engine.detect_bytes(b"")


@pytest.mark.parametrize("text", ["id,name\n", "id,name", '"id","na\nme"\r\n', "id\n\n\n"])
def test_only_a_header_is_refused(load, text: str) -> None:
    with pytest.raises(engine.HeaderOnly):
        load(text)


@pytest.mark.parametrize("content", ["[]", " [ ] ", "[{}]"])
def test_a_json_array_without_columns_is_refused(load, content: str) -> None:
    with pytest.raises(engine.HeaderOnly):
        load(content, format=Format.JSON)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "PNG"),
        (b"PK\x03\x04abc", "Excel"),
        (b"\x1f\x8b\x08abc", "Content-Encoding: gzip"),
        (b"%PDF-1.7", "PDF"),
        (b"PAR1abc", "format=parquet"),
        (b"a,b\0\0\1,2", "zero bytes"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16 without a byte order mark.* charset=utf-16-le"),
        ("a,b\n1,2\n".encode("utf-16-be"), "charset=utf-16-be"),
        ("a,b\n1,2\n".encode("utf-32-le"), "UTF-32 without a byte order mark.* charset=utf-32-le"),
        ("a,b\n1,2\n".encode("utf-32-be"), "charset=utf-32-be"),
        (bytes(range(1, 32)) * 20, "control characters"),
    ],
)
def test_a_binary_file_called_csv_is_refused_with_what_it_is(head: bytes, says: str) -> None:
    with pytest.raises(engine.NotText, match=says):
        engine.detect_bytes(head, "data.csv", "text/csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON, Format.JSON])
def test_a_byte_order_mark_with_utf_16_and_utf_32_is_read(load, encoding: str, format: Format) -> None:
    texts = {
        Format.CSV: "id,name\n1,Zoë\n",
        Format.NDJSON: '{"id": 1, "name": "Zoë"}\n',
        Format.JSON: '[{"id": 1, "name": "Zoë"}]',
    }
    loaded = load(texts[format].encode(encoding), format=format)
    assert loaded.rows == [{"id": 1, "name": "Zoë"}]


def test_latin_1_is_refused_with_the_line_unless_it_is_named(load) -> None:
    text = "id,name\n1,a\n2,Zoë\n".encode("latin-1")
    with pytest.raises(engine.InvalidEncoding, match=r"Line 3 .*charset=latin-1"):
        load(text)
    assert load(text, options={"encoding": "latin-1"}).rows[1] == {"id": 2, "name": "Zoë"}
    with pytest.raises(engine.InvalidEncoding, match="Line 1 "):
        load("id,nämé\n1,a\n".encode("latin-1"))


def test_latin_1_after_the_sample_is_refused_with_the_line(load) -> None:
    text = b"id,name\n" + b"1,abcdefghij\n" * 200_000 + "2,Zoë\n".encode("latin-1")
    with pytest.raises(engine.InvalidEncoding, match="Line 200002 "):
        load(text)


def test_an_unknown_encoding_is_refused(load) -> None:
    with pytest.raises(engine.InvalidEncoding, match="utf-9"):
        load("a\n1\n", options={"encoding": "utf-9"})


def test_a_wrong_delimiter_is_refused_with_the_right_one(load) -> None:
    with pytest.raises(engine.WrongDelimiter, match="Send delimiter=;"):
        load("id;name\n1;a\n2;b\n", options={"delimiter": ","})
    with pytest.raises(engine.WrongDelimiter, match="one ASCII character"):
        load("id;name\n1;a\n2;b\n", options={"delimiter": "::"})
    with pytest.raises(engine.WrongDelimiter, match="Send delimiter=,"):
        load("id,name\n1,a\n2,b\n", format=Format.TSV)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(load, delimiter: str) -> None:
    text = delimiter.join(["id", "name"]) + "\n" + delimiter.join(["1", '"a,;|\tb"']) + "\n"
    assert load(text).rows == [{"id": 1, "name": "a,;|\tb"}]


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON, Format.JSON])
def test_a_long_line_is_refused_in_bounded_memory(load, format: Format) -> None:
    start = {Format.CSV: b"id,name\n1,", Format.NDJSON: b'{"a": "', Format.JSON: b'[{"a": "'}[format]
    before = pa.total_allocated_bytes()
    with pytest.raises(engine.LineTooLong):
        load(start + b"x" * 20_000_000, format=format)
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_a_long_line_behind_the_sample_is_refused_by_the_reader_too(load, tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_bytes(b"id,name\n" + b"1,abcdefghij\n" * 200_000 + b"2," + b"x" * 20_000_000 + b"\n")
    source = engine.Source(path, path.name, engine.ReadOptions(Format.CSV), records=200_001)
    folder = tmp_path / "long"
    with pytest.raises(engine.LineTooLong, match="line 200002 "):
        engine.write([source], None, out_dir=folder / "o", quarantine_dir=folder / "q", work_dir=folder / "w")
    assert not (folder / "o").exists()
    assert not (folder / "q").exists()


def test_ragged_rows_are_quarantined_with_their_lines(load) -> None:
    loaded = load('id,name,day\n1,a,2013-01-01\n2,b\n3,"x\ny",2013-01-02,4\n\n5,c,2013-01-03\n', schema=TABLE)
    assert [row["id"] for row in loaded.rows] == [1, 5]
    assert [(row["line"], row["reason"], row["row"]) for row in loaded.rejects] == [
        (3, "the row has 2 fields, the header has 3", "2,b"),
        (4, "the row has 4 fields, the header has 3", '3,"x\ny",2013-01-02,4'),
    ]


def test_the_reported_line_is_the_physical_one_after_quoted_line_breaks(load) -> None:
    text = 'id,name,day\r\n1,"a\r\nb\r\nc",2013-01-01\r\n\r\nx,"d\ne",2013-01-02\r\n4,f,2013-02-30\r\n'
    loaded = load(text, schema=TABLE)
    assert [(row["line"], row["column"], row["value"]) for row in loaded.rejects] == [
        (6, "id", "x"),
        (8, "day", "2013-02-30"),
    ]
    assert loaded.rejects[0]["row"] == 'x,"d\ne",2013-01-02'


def test_several_bad_columns_are_one_quarantined_row_with_several_errors(load) -> None:
    loaded = load("id,name,day\nx,a,y\n", schema=TABLE)
    assert loaded.result.rows_quarantined == 1
    assert [row["column"] for row in loaded.rejects] == ["id", "day"]
    assert [row["reason"] for row in loaded.rejects] == [
        "'x' is not a whole number (long)",
        "'y' is not a date like 2013-01-31 (date)",
    ]


@pytest.mark.parametrize("header", ["a,b,a", "a,b,A", "a,b, a "])
def test_duplicate_column_names_are_refused(load, header: str) -> None:
    with pytest.raises(engine.DuplicateColumn, match="Columns 1 and 3"):
        load(f"{header}\n1,2,3\n")


@pytest.mark.parametrize("header", ["a,,c", "a,b,", ",", "a, ,c"])
def test_an_empty_column_name_is_refused(load, header: str) -> None:
    with pytest.raises(engine.EmptyColumnName, match="header=false"):
        load(f"{header}\n1,2,3\n")


@pytest.mark.parametrize("name", ["a\0", "v\x1b[31m", "\x7f"])
def test_a_control_character_in_a_column_name_is_refused(load, name: str) -> None:
    with pytest.raises(engine.BadColumnName, match=r"Column 2 of 2 .*control character"):
        load(f"id,{name}\n1,2\n".encode("utf-16"))  # where zero bytes are no sign of a binary file
    with pytest.raises(engine.BadColumnName, match=r"Column 1 of 1 .*control character"):
        load(parquet(pa.table({name: [1]})), format=Format.PARQUET)
    with pytest.raises(engine.BadColumnName, match=r"field of the column 'outer' .*control character"):
        load(parquet(pa.table({"outer": [[{name: 1}]]})), format=Format.PARQUET)


def test_a_name_of_any_length_is_no_column_name(load) -> None:
    most, more = "n" * 255, "n" * 256
    assert load(f"id,{most}\n1,2\n").rows == [{"id": 1, most: 2}]
    with pytest.raises(engine.BadColumnName, match="256 characters"):
        load(f"id,{more}\n1,2\n")
    with pytest.raises(engine.BadColumnName, match="256 characters"):
        load(f'{{"id": 1}}\n{{"id": 2, "{more}": 3}}\n', format=Format.NDJSON)


def test_a_column_name_may_have_several_lines_as_spreadsheets_write_it(load) -> None:
    assert load('id,"total\namount"\n1,2\n').rows == [{"id": 1, "total\namount": 2}]


def test_json_lines_that_are_no_objects_are_quarantined(load) -> None:
    text = '{"id": 1}\n[1]\nnull\n"x"\n7\n{bad\n{"id": 2, "id": 3}\n{"id": 4}\n'
    loaded = load(text, format=Format.NDJSON, schema=TABLE)
    assert [row["id"] for row in loaded.rows] == [1, 4]
    assert [(row["line"], row["reason"]) for row in loaded.rejects] == [
        (2, "the line is not a JSON object but an array"),
        (3, "the line is not a JSON object but null"),
        (4, "the line is not a JSON object but a string"),
        (5, "the line is not a JSON object but a number"),
        (6, "the line is not valid JSON"),
        (7, "the object has the same key twice"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"id": 1},\n{"id": ]', "line 2"),
        ('[{"id": 1},\n{"id": 2}', "ends before the array does"),
        ('[{"id": 1}\n{"id": 2}]', "a comma is missing"),
        ('[{"id": 1}] x', "after the array's end"),
        ('[{"id": ' + "[" * 100_000, "nested deeper than 500 levels"),
    ],
)
def test_a_broken_json_array_is_refused_with_the_line(load, text: str, says: str) -> None:
    with pytest.raises(engine.InvalidJson, match=says):
        load(text, format=Format.JSON)


@pytest.mark.parametrize(
    "text", ['[{"a": 1}, {"a": 2}]\n', '[{"a": 1},\n{"a": 2}]', '[\n  {"a": 1}\n]', "[", '[{"a": "' + "x" * 70_000]
)
def test_a_json_array_called_ndjson_is_refused_with_advice(text: str) -> None:
    with pytest.raises(
        engine.InvalidJson, match=r"The file 'a.ndjson' is a JSON array.* as \.json or with format=json"
    ):
        engine.detect_bytes(text.encode()[:65536], "a.ndjson")


@pytest.mark.parametrize("text", ['[{"a": 1}]\n{"a": 2}\n', "[1]\n[2]\n", '{"a": 1}\n[{"a": 2}]\n'])
def test_an_array_on_a_line_of_its_own_is_a_bad_record_and_no_reason_to_refuse_the_file(text: str) -> None:
    assert engine.detect_bytes(text.encode(), "a.ndjson") is Format.NDJSON


@pytest.mark.parametrize(
    ("head", "refusal"),
    [(b"", engine.EmptyBody), (b" \n", engine.EmptyBody), (b"a\0b\0", engine.NotText), (b"%PDF-1", engine.NotText)],
)
def test_a_refusal_names_the_file(head: bytes, refusal: type[engine.EngineError]) -> None:
    with pytest.raises(refusal, match=r"'second\.csv'"):
        engine.detect_bytes(head, "second.csv")


@pytest.mark.parametrize("format", [Format.NDJSON, Format.JSON, Format.PARQUET])
def test_who_sends_no_header_is_not_told_to_mend_one(load, format: Format) -> None:
    texts = {Format.NDJSON: '{"": 1}\n', Format.JSON: '[{"": 1}]', Format.PARQUET: parquet(pa.table({"": [1]}))}
    with pytest.raises(engine.EmptyColumnName, match=r"Column 1 of 1 .*leave it out") as caught:
        load(texts[format], format=format)
    assert "header" not in str(caught.value)


def test_a_json_object_over_several_lines_is_refused_with_advice() -> None:
    with pytest.raises(engine.InvalidJson, match="one object per line"):
        engine.detect_bytes(b'{\n  "a": 1\n}\n', "data.json")


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_a_truncated_parquet_is_refused(load) -> None:
    data = parquet(pa.table({"id": list(range(1000))}))
    with pytest.raises(engine.TruncatedParquet):
        load(data[:-100], format=Format.PARQUET)
    with pytest.raises(engine.TruncatedParquet):
        load(b"PAR1", format=Format.PARQUET)


def test_a_damaged_parquet_page_is_refused(load) -> None:
    data = bytearray(parquet(pa.table({"id": list(range(100_000)), "s": ["x" * 20] * 100_000})))
    data[40:20_000] = b"\xff" * 19_960
    with pytest.raises(engine.TruncatedParquet):
        load(bytes(data), format=Format.PARQUET)


def test_a_parquet_page_that_is_not_as_its_checksum_says_is_refused(load) -> None:
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"id": list(range(1000))}), sink, write_page_checksum=True, compression="none", use_dictionary=False
    )
    data = bytearray(sink.getvalue())
    assert len(load(bytes(data), format=Format.PARQUET).rows) == 1000
    data[data.index((500).to_bytes(8, "little") + (501).to_bytes(8, "little"))] ^= 1
    with pytest.raises(engine.TruncatedParquet, match="checksum"):
        load(bytes(data), format=Format.PARQUET)


@pytest.mark.parametrize("other", ["X", "x"])
@pytest.mark.parametrize("deep", [False, True])
def test_fields_within_a_column_of_parquet_that_have_one_name_are_refused(load, other: str, deep: bool) -> None:
    column: Any = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["x", other])
    if deep:
        column = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), column)
    with pytest.raises(engine.DuplicateColumn, match=f"'s' has the fields 'x' and '{other}'"):
        load(parquet(pa.table({"s": column})), format=Format.PARQUET)
    apart = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["x", "y"])
    assert load(parquet(pa.table({"s": apart})), format=Format.PARQUET).rows == [{"s": '{"x":1,"y":2}'}]


@pytest.mark.parametrize("nested", ["no", "list", "struct", "map", "large", "dictionary"])
@pytest.mark.parametrize("schema", [None, Schema(NestedField(1, "s", LongType(), required=False))], ids=["new", "long"])
def test_text_of_parquet_that_is_no_text_is_refused_with_column_and_row(load, nested: str, schema: Any) -> None:
    raw = [b"ok"] * 20_000 + [b"\xff\xfe"] + [b"ok"]
    texts = illegible(raw)
    offsets = pa.array(range(len(raw) + 1), pa.int32())
    made: dict[str, Any] = {
        "no": lambda: texts,
        "large": lambda: illegible(raw, pa.large_string()),
        "list": lambda: pa.ListArray.from_arrays(offsets, texts),
        "struct": lambda: pa.StructArray.from_arrays([texts], ["t"]),
        "map": lambda: pa.MapArray.from_arrays(offsets, pa.array(["k"] * len(raw)), texts),
        "dictionary": lambda: texts.dictionary_encode(),
    }
    file = parquet(pa.table({"n": range(len(raw)), "s": made[nested]()}))
    with pytest.raises(engine.InvalidEncoding, match=r"row 20,001 of the column 's'"):
        load(file, format=Format.PARQUET, schema=schema)


def illegible(raw: list[bytes], kind: Any = None) -> Any:
    """Text that is none: nobody looks at buffers."""
    kind = kind or pa.string()
    column = pa.array(raw, pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(kind, len(raw), column.buffers())


def test_a_required_column_must_be_there_and_filled(load) -> None:
    schema = Schema(NestedField(1, "id", LongType(), required=True), NestedField(2, "name", StringType()))
    with pytest.raises(engine.MissingColumn, match="'id'"):
        load("name\na\n", schema=schema)
    loaded = load(
        "id,name\n1,a\n,b\n", schema=Schema(NestedField(1, "id", LongType(), required=True), *TABLE.fields[1:2])
    )
    assert [row["reason"] for row in loaded.rejects] == ["is empty, but the table requires a value"]


def test_a_file_for_another_table_is_refused(load) -> None:
    with pytest.raises(engine.NoMatchingColumn, match="'x', 'y'"):
        load("x,y\n1,2\n", schema=TABLE)


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON])
def test_a_new_column_is_refused_when_the_sender_says_so(load, format: Format) -> None:
    text = "id,extra\n1,2\n" if format is Format.CSV else '{"id": 1}\n' * 50_000 + '{"id": 1, "extra": 2}\n'
    with pytest.raises(engine.NewColumn, match="'extra'"):
        load(text, format=format, schema=TABLE, on_new_column="reject")


FULL_DISK = """
import resource, sys
from pathlib import Path
from lakegate_ingest import engine
folder = Path(sys.argv[1])
source = engine.Source(folder / "in.csv", "in.csv", engine.ReadOptions(engine.Format.CSV))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    engine.write([source], None, out_dir=folder / "o", quarantine_dir=folder / "q", work_dir=folder / "w")
except engine.OutOfDisk:
    sys.exit(7)
"""


@pytest.mark.parametrize("tail", ["", "1,2,3\n"])  # typed, tolerant
def test_a_full_disk_fails_the_load_and_keeps_nothing(tmp_path: Path, tail: str) -> None:
    draw = random.Random(1)
    rows = "".join(f"{draw.getrandbits(60)},{draw.getrandbits(200):x}\n" for _ in range(20_000))
    (tmp_path / "in.csv").write_text("a,b\n" + rows + tail)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=False)
    assert done.returncode == 7
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_cancelling_keeps_nothing(load, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(engine.LoadCancelled):
        load("id\n1\n", cancelled=cancelled)
    assert not (tmp_path / "load" / "data").exists()


def test_a_wrong_count_fails_the_load(load, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id\n1\n2\n")
    source = engine.Source(path, path.name, engine.ReadOptions(Format.CSV), records=3)
    folder = tmp_path / "wrong"
    with pytest.raises(engine.CountMismatch):
        engine.write([source], TABLE, out_dir=folder / "o", quarantine_dir=folder / "q", work_dir=folder / "w")
    assert not (folder / "o").exists()


@pytest.mark.parametrize("early", [1, 100_000])
@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"a\\u0000b": 1, "a": 2}', 'the key "a\\u0000b" has a control character'),
        ('{"a": 1, "\\n": 2}', 'the key "\\n" has a control character'),
        ('{"A": 5}', "the key 'A' differs from the column 'a' only in upper and lower case"),
    ],
)
def test_a_json_record_with_an_impossible_key_is_quarantined(load, record: str, reason: str, early: int) -> None:
    loaded = load('{"a": 100000000}\n' * early + record + '\n{"a": 3}\n', format=Format.NDJSON)
    assert [(row["line"], row["reason"], row["row"]) for row in loaded.rejects] == [(early + 1, reason, record)]
    assert loaded.result.rows_written == early + 1
    assert loaded.types == {"a": "long"}


def test_running_out_of_memory_is_told(load, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise duckdb.OutOfMemoryException("failed to allocate data (90.0 MiB/90.0 MiB used)")

    monkeypatch.setattr(loading, "write_tolerant", lambda *_, **__: exhausted())
    with pytest.raises(engine.OutOfMemory, match="Nothing was kept"):
        load("a,b\n1,2\n3\n")


def test_records_may_be_uncounted_for_a_body_that_the_counter_reads_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(b'a\n\n\\;\xc3\xa9\t"a\nb"')
    source = engine.Source(path, path.name, engine.ReadOptions(Format.CSV))
    result = engine.write(
        [source], None, out_dir=tmp_path / "o", quarantine_dir=tmp_path / "q", work_dir=tmp_path / "w"
    )
    assert result.rows_in == result.rows_written + result.rows_quarantined == 2
