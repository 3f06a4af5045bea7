"""What counts as a number in what clients write: anything else is None, and nothing raises."""

from __future__ import annotations

import pytest

from lakegate_chassis.numerals import natural


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_ascii_digits_are_a_number(text: str, value: int) -> None:
    assert natural(text) == value


@pytest.mark.parametrize("text", [None, "", "²", "٣", "-1", "+1", " 1", "1_0", "1.0", "9" * 19, "9" * 5000])
def test_anything_else_is_none(text: str | None) -> None:
    assert natural(text) is None


def test_the_caller_may_allow_fewer_digits() -> None:
    assert natural("123", digits=3) == 123
    assert natural("1234", digits=3) is None
