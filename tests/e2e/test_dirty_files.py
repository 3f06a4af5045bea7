"""Bad rows are never lost and never silent: each is kept with its file, line, column, value and reason."""

from __future__ import annotations

from typing import Any

import httpx
from suites import Push

CLEAN = b"id,amount,day,note\n1,10,2024-01-01,one\n2,20,2024-01-02,two\n"


def rejects_of(lake: httpx.Client, receipt: dict[str, Any]) -> list[dict[str, Any]]:
    answer = lake.get(
        f"/v1/loads/{receipt['load_id']}/rejects", params={"limit": 1000}, headers={"Accept": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_good_rows_go_in_and_bad_ones_are_kept_with_their_reason(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, CLEAN)
    dirty = b"""id,amount,day,note
3,30,2024-01-03,ok
4,thirty,2024-01-04,word
5,50,2024-02-31,no such day
6,60,2024-01-06,ok
"""

    receipt = push(table, dirty, name="dirty.csv").json()

    assert (receipt["rows_in"], receipt["rows_written"], receipt["quarantine"]["rows"]) == (4, 2, 2)
    found = {(item["file"], item["line"], item["column"], item["value"]) for item in rejects_of(lake, receipt)}
    assert found == {("dirty.csv", 3, "amount", "thirty"), ("dirty.csv", 4, "day", "2024-02-31")}
    assert all(item["reason"] for item in rejects_of(lake, receipt))


def test_the_line_is_the_real_one_after_quoted_newlines(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, CLEAN)
    dirty = (
        b'id,amount,day,note\n3,30,2024-01-03,"two\nlines"\n4,40,2024-01-04,"three\n\nlines"\n5,many,2024-01-05,here\n'
    )

    receipt = push(table, dirty).json()

    assert receipt["rows_written"] == 2
    assert [(item["line"], item["column"]) for item in rejects_of(lake, receipt)] == [(7, "amount")]


def test_ragged_rows_are_set_aside_whole(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, CLEAN)
    dirty = b"id,amount,day,note\n3,30\n4,40,2024-01-04,ok\n5,50,2024-01-05,too,many\n"

    receipt = push(table, dirty).json()

    assert (receipt["rows_in"], receipt["rows_written"], receipt["quarantine"]["rows"]) == (3, 1, 2)
    assert sorted(item["line"] for item in rejects_of(lake, receipt)) == [2, 4]


def test_two_bad_values_are_two_reasons_and_one_row(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, CLEAN)

    receipt = push(table, b"id,amount,day,note\nx,y,2024-01-03,both\n4,40,2024-01-04,ok\n").json()

    assert receipt["quarantine"]["rows"] == 1
    assert {item["column"] for item in rejects_of(lake, receipt)} == {"id", "amount"}


def test_a_file_that_is_bad_from_end_to_end_is_accounted_for_too(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, CLEAN)
    rows = b"".join(b"x%d,%d,2024-01-01,n\n" % (number, number) for number in range(5000))

    receipt = push(table, b"id,amount,day,note\n" + rows).json()

    assert (receipt["rows_in"], receipt["rows_written"], receipt["quarantine"]["rows"]) == (5000, 0, 5000)


def test_overflow_is_refused_and_not_wrapped(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, CLEAN)

    receipt = push(table, b"id,amount,day,note\n99999999999999999999,1,2024-01-03,big\n4,40,2024-01-04,ok\n").json()

    assert receipt["rows_written"] == 1
    assert [item["column"] for item in rejects_of(lake, receipt)] == ["id"]


def test_rejects_come_in_pages_that_follow_each_other(lake: httpx.Client, push: Push, table: str) -> None:
    push(table, CLEAN)
    rows = b"".join(b"x,%d,2024-01-01,n\n" % number for number in range(25))
    receipt = push(table, b"id,amount,day,note\n" + rows).json()

    lines: list[int] = []
    following: str | None = f"/v1/loads/{receipt['load_id']}/rejects?limit=10"
    while following:
        page = lake.get(following, headers={"Accept": "application/json"}).json()
        lines += [item["line"] for item in page["items"]]
        following = page["next"]

    assert lines == list(range(2, 27))


def test_a_column_first_read_as_numbers_is_text_when_the_file_says_so(push: Push, table: str) -> None:
    """Inference on a first load widens a type rather than set aside what a longer look would have allowed."""
    rows = b"".join(b"%d\n" % number for number in range(30_000)) + b"n/a\n"

    receipt = push(table, b"code\n" + rows).json()

    assert (receipt["rows_written"], receipt["quarantine"]["rows"]) == (30_001, 0)
