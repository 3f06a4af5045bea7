from __future__ import annotations

import pytest

from lakegate_contracts.names import InvalidName, TableName, table_dataset


def test_the_last_level_of_a_dotted_name_is_the_table() -> None:
    assert TableName.parse("travel.eu.flights") == TableName("travel.eu", "flights")
    assert TableName.parse("travel.eu.flights").levels == ("travel", "eu")


@pytest.mark.parametrize(
    "name",
    [
        "flights",
        "travel.",
        ".flights",
        "a..b",
        "a/b.c",
        "a.b\n",
        " a.b",
        "a." + "x" * 129,
        "a.\u200b",
        "a\u202e.b",
        "a.b\x9bc",
        "a.\u2028b",
    ],
)
def test_a_name_that_a_path_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        TableName.parse(name)


def test_a_name_that_nobody_sees_is_told_by_its_characters() -> None:
    with pytest.raises(InvalidName, match=r"'\\u200b\u00fc\\x1b' can't be a name"):
        TableName.parse("a.\u200b\u00fc\x1b")


def test_a_name_may_be_of_any_language() -> None:
    for name in ("\u0646\u06cc\u0645\u200c\u0641\u0627\u0635\u0644\u0647", "\u65e5\u672c\u3000\u8a9e", "\U0001f986"):
        assert TableName.parse(f"a.{name}").name == name


def test_a_table_has_one_openlineage_name() -> None:
    assert table_dataset("acme", TableName("travel", "flights")) == ("lakegate://acme", "travel.flights")
