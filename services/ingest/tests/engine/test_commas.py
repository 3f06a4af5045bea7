"""A comma before a closing bracket is no JSON, though DuckDB reads it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakegate_ingest import engine
from lakegate_ingest.engine import Format
from lakegate_ingest.engine.commas import StrayCommas

REASON = "the line is not valid JSON: a comma stands before a closing bracket"
BEHIND_THE_SAMPLE = 200_000  # records of one number each


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1},]',
        '[{"a": 1}\n,\n]',
        '[,{"a": 1}]',
        '[{"a": 1}{"a": 2}]',
        '[{"a": 1}{"a": 2},]',
        '[{"a": 1},,{"a": 2}]',
        '[{"a": 1,}]',
        '[{"a": 1\n,\n}]',
        '[{"a": [1, 2,]}]',
    ],
)
def test_an_array_with_a_comma_too_many_or_too_few_is_refused(load, text: str) -> None:
    with pytest.raises(engine.InvalidJson, match=r"line [1-3]: "):
        load(text, format=Format.JSON)


@pytest.mark.parametrize("end", ['{"a": 1,}]', '{"a": 1}, ]'])
def test_such_an_array_is_refused_wherever_the_comma_is(load, end: str) -> None:
    with pytest.raises(engine.InvalidJson, match=f"line {BEHIND_THE_SAMPLE + 1}: "):
        load("[" + '{"a": 1},\n' * BEHIND_THE_SAMPLE + end, format=Format.JSON)


@pytest.mark.parametrize("line", ['{"a": 2,}', '{"a": 2 , \t}', '{"a": [3,]}', '{"a": {"b": 1,}}', '{"a": "\\\\",}'])
@pytest.mark.parametrize("other", ['{"a": 4}', '{"a": '])  # with the latter, DuckDB ends the fast path by itself
def test_a_line_with_such_a_comma_is_set_aside(load, line: str, other: str) -> None:
    loaded = load(f'{{"a": 1}}\n{line}\n{other}\n', format=Format.NDJSON)
    assert loaded.rows[0] == {"a": 1}
    assert next((row["line"], row["reason"], row["row"]) for row in loaded.rejects) == (2, REASON, line)
    assert loaded.result.rows_quarantined == 1 + (other == '{"a": ')


def test_such_a_line_behind_the_sample_is_set_aside(load) -> None:
    loaded = load('{"a": 1}\n' * BEHIND_THE_SAMPLE + '{"a": 2,}\n', format=Format.NDJSON)
    assert [(row["line"], row["reason"]) for row in loaded.rejects] == [(BEHIND_THE_SAMPLE + 1, REASON)]


def test_a_key_that_only_such_a_line_has_is_no_column(load) -> None:
    assert load('{"a": 1}\n{"b": 2,}\n', format=Format.NDJSON).types == {"a": "long"}


@pytest.mark.parametrize("text", [",]", ", }", '\\",}', "(]", "-}"])
def test_such_a_comma_in_a_text_is_text(load, text: str) -> None:
    rows = [{"a": text.replace('\\"', '"')}]
    assert load(f'{{"a": "{text}"}}\n', format=Format.NDJSON).rows == rows
    loaded = load(f'[{{"a": "{text}"}}]', format=Format.JSON)
    assert (loaded.rows, loaded.result.path) == (rows, "typed")


@given(st.lists(st.text(alphabet=', \t\r!)-"x}]', max_size=9), max_size=4))
def test_it_is_found_however_the_text_is_cut(pieces: list[str]) -> None:
    commas = StrayCommas()
    for piece in pieces:
        commas.feed(piece.encode())
    assert commas.found == (re.search(r",[ \t\r]*[}\]]", "".join(pieces)) is not None)
