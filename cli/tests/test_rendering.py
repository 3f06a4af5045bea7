from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from rich.console import Console, RenderableType

from lakegate.client.models import LineageGraph, Reject
from lakegate.demo.flights import dirty_file
from lakegate.lakehouse import Answer
from lakegate.output import Output
from lakegate.render import lineage, loads, rows, words
from lakegate_contracts.receipts import QuarantineSummary, Receipt, SourceFile


def printed(renderable: RenderableType, width: int = 300) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def receipt(quarantined: int = 2) -> Receipt:
    started = datetime(2024, 1, 1, tzinfo=UTC)
    load_id = uuid4()
    return Receipt(
        load_id=load_id,
        tenant="default",
        table="travel.flights",
        files=(SourceFile(name="[red]odd[/].csv", format="csv", size_bytes=31_053_850, sha256="ab" * 32),),
        rows_in=336_776,
        rows_written=336_776 - quarantined,
        quarantine=QuarantineSummary(rows=quarantined, href=f"/v1/loads/{load_id}/rejects"),
        snapshot_id=7,
        catalog_version=3,
        consistency_token="t",
        run_id=uuid4(),
        trace_id="0af7",
        request_id="r1",
        started_at=started,
        completed_at=started + timedelta(seconds=2),
    )


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (31_053_850, "31.1 MB"), (5e15, "5000.0 TB")]
)
def test_sizes_are_decimal(number: float, text: str) -> None:
    assert words.size(number) == text


@pytest.mark.parametrize(("number", "text"), [(0.0851, "85 ms"), (4.21, "4.2 s"), (185, "3 min 05 s")])
def test_times_are_short(number: float, text: str) -> None:
    assert words.seconds(number) == text


def test_a_receipt_shows_what_ties_it_together() -> None:
    shown = printed(loads.receipt(Output(), receipt()))

    for text in (
        "travel.flights",
        "336,776",
        "336,774",
        "31.1 MB",
        "ab" * 32,
        "0af7",
        "2 (lakegate rejects",
        "168,388 rows/s",
    ):
        assert text in shown


def test_names_from_outside_are_no_markup() -> None:
    assert "[red]odd[/].csv" in printed(loads.receipt(Output(), receipt()))


def test_a_reject_shows_control_characters_and_cuts_long_values() -> None:
    item = Reject(file="a.csv", line=1234, column="tail", value="N1\n\x1b[31m" + "x" * 500, reason="not a number")

    shown = printed(loads.rejects(Output(), [item]))

    assert "1,234" in shown
    assert "N1\\n\\x1b[31m" in shown
    assert "\x1b[31m" not in shown
    assert "x" * 60 not in shown


def test_on_a_terminal_rejects_fit_100_columns_and_repeat_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    value = "2013-02-31T13:00:00Z"
    reason = f"'{value}' is not a date and time like 2013-01-31T23:59:00Z (timestamptz)"
    items = [
        Reject(file="dirty.csv", line=7, column="sched_dep_time", value=value, reason=reason),
        Reject(file="dirty.csv", line=9, row="2013,12,31," * 20, reason="the row has 7 fields, the header has 19"),
    ]

    console = Console(file=io.StringIO(), width=100)
    console.print(loads.rejects(Output(), items))

    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert shown.count(value) == 1
    assert shown.count("dirty.csv") == 1
    assert "the row has 7 fields, the" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_without_a_terminal_a_row_is_one_line() -> None:
    answer = Answer([("name", False), ("n", True)], [("x" * 50, number) for number in range(3)], truncated=False)

    lines = printed(rows.answer(Output(), answer), width=100_000).splitlines()

    assert len(lines) == 4
    assert lines[1].split() == ["x" * 50, "0"]


def graph() -> LineageGraph:
    def node(name: str, kind: str = "dataset") -> dict[str, str]:
        return {"id": name, "type": kind, "namespace": "n", "name": name}

    edges = [("file", "load"), ("load", "flights"), ("flights", "report"), ("report", "summary"), ("summary", "report")]
    return LineageGraph.model_validate(
        {
            "nodes": [node("file"), node("load", "job"), node("flights"), node("report", "job"), node("summary")],
            "edges": [{"from": source, "to": target} for source, target in edges],
            "truncated": False,
        }
    )


def test_lineage_is_a_tree_both_ways_and_ends_in_a_circle() -> None:
    lines = [line.strip(" │├└─") for line in printed(lineage.tree(Output(), graph(), "n", "flights")).splitlines()]

    assert [line.split("  ")[0] for line in lines] == [
        "dataset flights",
        "made from",
        "job load",
        "dataset file",
        "used by",
        "job report",
        "dataset summary",
        "job report",
    ]
    assert lines[-1].endswith("(see above)")


def test_a_dataset_without_lineage_says_so() -> None:
    assert "no lineage yet" in printed(lineage.tree(Output(), LineageGraph(), "n", "flights"))


def test_the_dirty_file_has_ten_bad_rows_and_eleven_good_ones() -> None:
    text = dirty_file().decode()

    # The quoted newline makes one record of two lines.
    assert len(text.splitlines()) == 1 + 11 + 10 + 1
