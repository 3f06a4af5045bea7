"""What `lakegate stream push` sends at once."""

from __future__ import annotations

from lakegate.commands.streams import batches


def test_a_file_is_sent_in_parts_of_whole_rows() -> None:
    lines = [b'{"id": 1}\n', b"\n", b'{"id": 2}\n', b'{"id": 3}']
    assert list(batches(lines, 2)) == [(b'{"id": 1}\n{"id": 2}\n', 2), (b'{"id": 3}\n', 1)]
    assert list(batches([], 2)) == []


def test_a_part_is_bounded_in_bytes_too() -> None:
    row = b'{"x": "' + b"y" * (3 << 20) + b'"}\n'
    assert [rows for _, rows in batches([row] * 5, 1000)] == [2, 2, 1]
