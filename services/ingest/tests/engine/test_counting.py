from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakegate_ingest.engine import Format, InvalidJson, LineTooLong, ReadOptions, RecordCounter, UnclosedQuote

PIECES = ["a", "b", ",", "\n", '"', '""', "\r\n", "\r", " ", '"x\ny"', ',"q",', '"a"b', "é"]


def count(data: bytes, options: ReadOptions, chunk: int = 1 << 20, **more: int) -> int:
    counter = RecordCounter(options, **more)
    for start in range(0, len(data), chunk):
        counter.feed(data[start : start + chunk])
    return counter.finish()


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.integers(1, 12))
def test_csv_records_are_those_of_the_csv_module_however_the_bytes_arrive(text: str, chunk: int) -> None:
    options = ReadOptions(Format.CSV, delimiter=",", header=False)
    *records, last = csv.reader(io.StringIO(text + "\nlast", newline=""))
    if last != ["last"]:  # it became part of a field
        with pytest.raises(UnclosedQuote, match=f"on line {_opened(text)} "):
            count(text.encode(), options, chunk)
        return
    assert count(text.encode(), options, chunk) == sum(1 for record in records if record)


def _opened(text: str) -> int:
    """The line of the last quote that opens a field, read one character at a time."""
    state, opened, line = "start", 0, 1
    for before, character in zip("\0" + text, text, strict=False):
        line += character == "\r" or (character == "\n" and before != "\r")
        if state == "quoted":
            state = "closing" if character == '"' else state
        elif character == '"' and state != "plain":
            opened = line if state == "start" else opened
            state = "quoted"
        else:
            state = "start" if character in ",\r\n" else "plain"
    return opened


@pytest.mark.parametrize(
    ("text", "malformed"),
    [
        ('1,"x"y\n', True), ('1,"x" y\n', True), ('"1"2,x\n', True), ('1,"x\n2,"y"\n', True), ('1,"x" "y"\n', True),
        ('1,"x"y', True), ('1,5" pipe\n', False), ('1,"x"  \n', False), ('1,"x" ,5" pipe\r\n', False),
        ('1,"x ""y"" z"\n', False), ('1,"x"', False), ('1,""\n"",""', False),
    ],
)  # fmt: skip
def test_text_behind_a_closing_quote_is_noticed(text: str, malformed: bool) -> None:
    for chunk in (1, 3, 100):
        counter = RecordCounter(ReadOptions(Format.CSV, delimiter=","))
        for start in range(0, len(text), chunk):
            counter.feed(text[start : start + chunk].encode())
        counter.finish()
        assert counter.malformed == malformed


@pytest.mark.parametrize("chunk", [1000, 20_000])
def test_a_long_field_with_escaped_quotes_is_named_by_the_line_it_opens_on(chunk: int) -> None:
    text = b'a\n1\n"x\ny","z\n""q""\n' + b'text ""q""\n' * 10_000
    with pytest.raises(LineTooLong, match="line 4 "):
        count(text, ReadOptions(Format.CSV, delimiter=","), chunk, max_line_bytes=10_000)


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(alphabet='a,[]{}"\\é\n'),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=6,
    ),
    st.sampled_from([None, 1]),
    st.integers(1, 12),
)
def test_json_records_are_the_elements_of_the_array(elements: list[object], indent: int | None, chunk: int) -> None:
    assert count(json.dumps(elements, indent=indent).encode(), ReadOptions(Format.JSON), chunk) == len(elements)


@pytest.mark.parametrize(
    ("text", "records"),
    [("", 0), ("\n\n", 0), ("{}", 1), ("{}\n", 1), ("{}\n\n{}\n", 2), ("{}\r\n\r\n{}\r\n", 2), ("{}\n  ", 1)],
)
def test_ndjson_counts_lines_that_are_not_blank(text: str, records: int) -> None:
    for chunk in (1, 2, 100):
        assert count(text.encode(), ReadOptions(Format.NDJSON), chunk) == records


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_and_utf_16_do_not_change_the_count(encoding: str) -> None:
    text = 'a,b\n1,"x\ny"\n2,ਊ\n'  # its low byte is a line feed
    data = text.encode(encoding)
    if encoding in ("utf-16-le", "utf-16-be"):
        data = "\ufeff".encode(encoding) + data
    for chunk in (2, 3, 1000):
        assert count(data, ReadOptions(Format.CSV, delimiter=","), chunk) == 2


def test_the_header_is_not_a_record() -> None:
    assert count(b"a,b\n", ReadOptions(Format.CSV)) == 0
    assert count(b"a,b\n1,2", ReadOptions(Format.CSV)) == 1
    assert count(b"1,2\n1,2", ReadOptions(Format.CSV, header=False)) == 2


def test_the_delimiter_is_found_for_quoted_fields() -> None:
    assert count(b'a;b\n1;"x\ny"\n2;z\n', ReadOptions(Format.CSV)) == 2


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON, Format.JSON])
def test_a_record_beyond_the_limit_is_refused_while_it_arrives(format: Format) -> None:
    start = b'[{"a":"' if format is Format.JSON else b"a"
    with pytest.raises(LineTooLong, match="line break"):
        count(start + b"x" * 1_000_000, ReadOptions(format, delimiter=","), 1000, max_line_bytes=10_000)


def test_a_quote_that_never_closes_is_refused_while_it_arrives() -> None:
    with pytest.raises(LineTooLong):
        count(b'"a,b\n' + b"c,d\n" * 250_000, ReadOptions(Format.CSV, delimiter=","), 1000, max_line_bytes=10_000)


def test_many_records_of_bounded_length_are_not_too_long() -> None:
    data = b'1,"x\ny"\n' * 50_000
    assert count(data, ReadOptions(Format.CSV, delimiter=",", header=False), 4096, max_line_bytes=10_000) == 50_000


@pytest.mark.parametrize("chunk", [1 << 20, 1000])
def test_deep_nesting_is_refused_in_one_pass(chunk: int) -> None:
    depth = 300_000
    with pytest.raises(InvalidJson, match="line 2 or later is nested deeper than 500 levels"):
        count(b"[\n" + b"[" * depth + b"]" * depth + b"]", ReadOptions(Format.JSON), chunk)
    assert count(b"[" + b"[" * 400 + b"]" * 400 + b", 2]", ReadOptions(Format.JSON), chunk) == 2


@pytest.mark.parametrize("format", [Format.CSV, Format.NDJSON, Format.JSON])
def test_a_long_record_is_named_by_its_line(format: Format) -> None:
    start = {
        Format.CSV: b'a\n1\n"x\ny"\n',
        Format.NDJSON: b"{}\n{}\n\n{}\n",
        Format.JSON: b'[\n{"a":\n1},{"b": 2},\n',
    }[format]
    long = {Format.CSV: b"", Format.NDJSON: b'{"c": "', Format.JSON: b'{"c":\n "'}[format] + b"x" * 50_000
    line = {Format.CSV: 5, Format.NDJSON: 5, Format.JSON: 4}[format]
    for chunk in (1000, 20_000):
        with pytest.raises(LineTooLong, match=f"line {line} "):
            count(start + long, ReadOptions(format, delimiter=","), chunk, max_line_bytes=10_000)
