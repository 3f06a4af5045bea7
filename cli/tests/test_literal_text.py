"""What comes from data or a server is shown as it is: no markup, no emoji, nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import typer
from rich.console import RenderableType

from lakegate.client import LakegateError
from lakegate.client.errors import Refused
from lakegate.client.models import Dataset, LineageGraph, Load, LoadEvent, LoggedEvent, Problem, Reject
from lakegate.commands.events import _line
from lakegate.doctor.findings import Finding, State
from lakegate.failures import CommandFailed, explained
from lakegate.lakehouse import Answer
from lakegate.output import Column, Output
from lakegate.progress import follow
from lakegate.render import catalog, doctor, lineage, loads, rows
from lakegate.text import json_for_terminals, visible

# short enough to be cut nowhere
ODD = "[/b]:x:\x1b[m\x9b\n\u2028ü"
SHOWN = "[/b]:x:\\x1b[m\\x9b\\n\\u2028ü"
OBEYED = ("\x1b[m\\", "\x9b", "\u2028", "❌")
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def dataset() -> Dataset:
    field = {"field_id": 1, "name": ODD, "type": ODD, "nullable": True}
    return Dataset.model_construct(
        id=uuid4(), namespace=ODD, name=ODD, kind=ODD, rows=1, size_bytes=1, version=1, snapshot_id=1, owner=ODD,
        tags=[ODD], description=ODD, location=ODD, updated_at=NOW,
        schema_=type("S", (), {"fields": [type("F", (), field)]}),
    )  # fmt: skip


def graph() -> LineageGraph:
    node = {"id": "a", "type": "dataset", "namespace": ODD, "name": ODD}
    return LineageGraph.model_validate({"nodes": [node], "edges": [], "truncated": False})


def reject() -> Reject:
    return Reject.model_construct(file=ODD, line=1, column=ODD, value=ODD, row=ODD, reason=ODD)


SHOWS: dict[str, Callable[[Output], RenderableType]] = {
    "headers": lambda output: rows.answer(output, Answer([(ODD, False)], [(1,)], truncated=False)),
    "cells": lambda output: rows.answer(output, Answer([("a", False)], [(ODD,)], truncated=False)),
    "datasets": lambda output: catalog.datasets(output, [dataset()]),
    "a dataset": lambda output: catalog.dataset(output, dataset()),
    "a schema": lambda output: catalog.schema(output, dataset()),
    "a tree": lambda output: lineage.tree(output, graph(), ODD, ODD),
    "no tree": lambda output: lineage.tree(output, graph(), "", ODD),
    "rejects": lambda output: loads.rejects(output, [reject()]),
    "findings": lambda output: doctor.findings(output, [Finding(area=ODD, state=State.OK, found=ODD, remedy=ODD)]),
    "an event": lambda output: _line(LoggedEvent.model_construct(position=1, time=NOW, type=ODD, key=ODD, id=uuid4())),
    "a string": lambda output: ODD,
    "a panel": lambda output: output.panel(ODD, "-"),
    "a title": lambda output: output.table([Column("a")], [["-" * 40]], title=ODD),
    "pairs": lambda output: output.pairs([("-", ODD)]),
    "a row": lambda output: output.table([Column("a")], [[ODD]]),
}


class Stdout(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


Begin = Callable[[], tuple[Output, Stdout]]


@pytest.fixture(params=["terminal", "plain"])
def begin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """To be called in the test itself: pytest changes sys.stdout after the fixtures."""

    def begin() -> tuple[Output, Stdout]:
        stdout = Stdout(terminal=request.param == "terminal")
        monkeypatch.setattr("sys.stdout", stdout)
        monkeypatch.setenv("COLUMNS", "2000")
        return Output(), stdout

    return begin


def check(said: str) -> None:
    assert SHOWN in said
    for order in OBEYED:
        assert order not in said


@pytest.mark.parametrize("name", SHOWS)
def test_names_and_values_are_shown_as_they_are(begin: Begin, name: str) -> None:
    output, stdout = begin()
    output.show(SHOWS[name](output))
    check(stdout.getvalue())


@pytest.mark.parametrize("say", [Output.note, Output.heading])
def test_lines_aside_are_shown_as_they_are(begin: Begin, say: Callable[[Output, str], None]) -> None:
    output, stdout = begin()
    say(output, ODD)
    check(stdout.getvalue())


def test_a_file_that_is_sent_is_named_as_it_is(begin: Begin) -> None:
    output, stdout = begin()
    with follow(output, ODD) as follower:
        follower.on_upload(7, 7)
        follower.on_event(LoadEvent.model_validate({"state": "queued", "data": {}}))
    check(stdout.getvalue())


@pytest.mark.parametrize(
    "error",
    [
        Refused(Problem(title=ODD, status=422, detail=ODD, trace_id=ODD)),
        CommandFailed(ODD, hint=ODD),
        LakegateError(ODD),
        OSError(2, "no such file", ODD),
    ],
)
def test_errors_are_told_as_they_are(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    @explained
    def fail(**options: Any) -> None:
        raise error

    with pytest.raises(typer.Exit):
        fail()
    said = capsys.readouterr().err
    for order in OBEYED:
        assert order not in said
    # an error may have lines, as DuckDB's do; none looks like another error
    assert "[/b]:x:\\x1b[m\\x9b\n       \\u2028ü" in said

    with pytest.raises(typer.Exit):
        fail(as_json=True)
    said = capsys.readouterr().err
    assert all(order not in said for order in OBEYED)
    assert any(ODD in str(value) for value in json.loads(said).values())


def test_json_has_the_same_value_and_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).result({ODD: [ODD, "\U000e0041"]}, "")
    said = capsys.readouterr().out
    assert json.loads(said) == {ODD: [ODD, "\U000e0041"]}
    assert all(order not in said for order in OBEYED)
    assert "ü" in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\r\x7f", "\\r\\x7f"),
        ("a\u202eb\u200b", "a\\u202eb\\u200b"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_obeyed_or_not_seen_is_written(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert json.loads(json_for_terminals(json.dumps(text, ensure_ascii=False))) == text
    assert text not in json_for_terminals(json.dumps(text, ensure_ascii=False))


def test_json_has_what_other_parsers_read(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"nan": math.nan, "far": [math.inf, -math.inf], "bytes": b"\xff", "small": Decimal("1E-9"), "one": 1.5}
    Output(as_json=True).result(given, "")
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "nan": "NaN", "far": ["Infinity", "-Infinity"], "bytes": "/w==", "small": "0.000000001", "one": 1.5
    }  # fmt: skip


def test_what_can_be_read_stays() -> None:
    for text in ("", "plain [b] :x:", "日本\u3000語", "é\u00a0!", "👍"):
        assert visible(text) == text == json_for_terminals(text)


def test_a_line_of_the_output_is_a_line_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer([("a", False)], [("x\u2028y\x85z",), ("\xa0",)], truncated=False)
    Output().result(None, rows.answer(Output(), answer))
    assert capsys.readouterr().out == "a\nx\\u2028y\\x85z\n\xa0\n"


def test_loads_name_their_table_as_it_is(begin: Begin) -> None:
    output, stdout = begin()
    item = Load.model_construct(load_id=uuid4(), table=ODD, state="failed", receipt=None, finished_at=NOW)
    output.show(loads.loads(output, [item]))
    check(stdout.getvalue())
