"""Which character separates the fields of a CSV: decided once, from the first bytes, for counter and readers alike."""

from __future__ import annotations

import csv
import io

HEAD_BYTES = 64 * 1024
CANDIDATES = (",", ";", "\t", "|")


def first_records(text: str, delimiter: str, limit: int = 50) -> list[list[str]]:
    """Up to `limit` records of `text` by Python's csv module; broken quoting ends the list early."""
    records: list[list[str]] = []
    try:
        for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if record:
                records.append(record)
            if len(records) == limit:
                break
    except csv.Error:
        pass
    return records


def sniff_delimiter(head: bytes) -> str:
    """The candidate that splits the first record into most fields, and the others into as many.

    A comma when none splits anything. `head` must be the first HEAD_BYTES, or the whole file when shorter,
    so that every caller decides alike.
    """
    text = head[:HEAD_BYTES].decode("utf-8", "replace")
    best, best_score = ",", (0, 0.0)
    for delimiter in CANDIDATES:
        records = first_records(text, delimiter)
        if len(records) > 1 and len(head) >= HEAD_BYTES:
            records.pop()  # cut short
        if not records or len(records[0]) < 2:
            continue
        width = len(records[0])
        agreeing = sum(len(record) == width for record in records) / len(records)
        score = (round(agreeing * 4), float(width))
        if score > best_score:
            best, best_score = delimiter, score
    return best
