"""Files with very many columns: read within the same memory, or refused."""

from __future__ import annotations

import json

import pytest

from lakegate_ingest import engine
from lakegate_ingest.engine import Format


def test_too_many_columns_are_refused(load) -> None:
    with pytest.raises(engine.TooManyColumns):
        load(",".join(f"c{i}" for i in range(2001)) + "\n1\n")


@pytest.mark.parametrize("late", ["", "1,2\n"])
def test_a_file_of_a_thousand_columns_is_read_by_both_paths(load, late: str) -> None:
    width = 1000
    header = ",".join(f"k{number}" for number in range(width)) + "\n"
    loaded = load(header + (",".join(["1", *["1.5"] * (width - 1)]) + "\n") * 200 + late)
    assert loaded.result.rows_written == 200
    assert loaded.result.rows_quarantined == (1 if late else 0)
    assert len(loaded.result.schema.fields) == width


@pytest.mark.parametrize("late", ["", "[]\n"])
def test_json_with_a_thousand_keys_is_read_by_both_paths(load, late: str) -> None:
    record = json.dumps({f"k{number}": number for number in range(1000)}) + "\n"
    loaded = load(record * 50 + late, format=Format.NDJSON)
    assert loaded.rows[0]["k999"] == 999
    assert loaded.result.rows_written == 50
    assert loaded.result.rows_quarantined == (1 if late else 0)


@pytest.mark.parametrize("early", [0, 100_000])
def test_json_with_too_many_keys_is_refused(load, early: int) -> None:
    record = json.dumps({f"k{number}": number for number in range(1001)}) + "\n"
    with pytest.raises(engine.TooManyColumns, match="1001 columns; 1000 are allowed"):
        load('{"k0": 100000000}\n' * early + record, format=Format.NDJSON)
