"""Files to load, made on the spot: realistic columns, an exact share of bad rows, any size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import duckdb

Format = Literal["csv", "ndjson"]

# a key, words, money, a time, a flag, a ratio, a city, a day: what an export of orders looks like
_ROW = """
    i AS id,
    'customer-' || (i * 7919 % 100003) AS customer,
    (i % 1000000 * 1.37)::DECIMAL(18, 2) AS amount,
    TIMESTAMP '2024-01-01' + INTERVAL (i % 31536000) SECOND AS ordered_at,
    i % 7 = 0 AS express,
    round((i % 1000) / 7.0, 4) AS weight,
    'city ' || (i % 500) AS city,
    DATE '2020-01-01' + (i % 2000)::INT AS due
"""
# a bad row is one whose amount is no number, as when a currency slipped into the column
_BAD = "REPLACE (CASE WHEN hash(i) % 1000 < {bad} THEN amount || ' EUR' ELSE amount::VARCHAR END AS amount)"
_BYTES_PER_ROW = {"csv": 89, "ndjson": 165}


def write(path: Path, form: Format, size_bytes: int, bad_percent: float = 0) -> int:
    """Write about `size_bytes` of rows, of which `bad_percent` don't fit the type of `amount`; returns the rows."""
    rows = max(1, size_bytes // _BYTES_PER_ROW[form])
    select = f"SELECT {_ROW} FROM range({rows}) numbers(i)"
    if bad_percent:
        bad = _BAD.format(bad=round(bad_percent * 10))
        select = f"SELECT * EXCLUDE (i) {bad} FROM (SELECT i, {_ROW} FROM range({rows}) numbers(i))"
    options = "FORMAT csv, HEADER" if form == "csv" else "FORMAT json"
    duckdb.connect(config={"threads": 2}).execute(f"COPY ({select}) TO '{path}' ({options})")
    return rows
