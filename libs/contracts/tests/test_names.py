from __future__ import annotations

import pytest

from lakegate_contracts.names import InvalidName, TableName, table_dataset


def test_the_last_level_of_a_dotted_name_is_the_table() -> None:
    assert TableName.parse("travel.eu.flights") == TableName("travel.eu", "flights")
    assert TableName.parse("travel.eu.flights").levels == ("travel", "eu")


@pytest.mark.parametrize("name", ["flights", "travel.", ".flights", "a..b", "a/b.c", "a.b\n", " a.b", "a." + "x" * 129])
def test_a_name_that_a_path_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        TableName.parse(name)


def test_a_table_has_one_openlineage_name() -> None:
    assert table_dataset("acme", TableName("travel", "flights")) == ("lakegate://acme", "travel.flights")
