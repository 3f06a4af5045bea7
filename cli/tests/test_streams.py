"""What `lakegate stream push` sends at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakegate.client import operations
from lakegate.commands import streams
from lakegate.commands.streams import batches


def test_a_file_is_sent_in_parts_of_whole_rows() -> None:
    lines = [b'{"id": 1}\n', b"\n", b'{"id": 2}\n', b'{"id": 3}']
    assert list(batches(lines, 2)) == [(b'{"id": 1}\n{"id": 2}\n', 2), (b'{"id": 3}\n', 1)]
    assert list(batches([], 2)) == []


def test_a_part_is_bounded_in_bytes_too() -> None:
    row = b'{"x": "' + b"y" * (3 << 20) + b'"}\n'
    assert [rows for _, rows in batches([row] * 5, 1000)] == [2, 2, 1]


def test_a_key_makes_rows_that_may_be_sent_again() -> None:
    assert operations.send_rows("a.b", b"{}", idempotency_key="k").idempotent
    assert not operations.send_rows("a.b", b"{}").idempotent


def test_a_push_that_failed_goes_on_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[bytes, str]] = []

    class Lake:
        def send_rows(self, table: str, body: bytes, *, on_bad_row: str, idempotency_key: str) -> None:
            if len(sent) == 1:
                sent.append((body, "failed"))
                raise OSError("gone")
            sent.append((body, idempotency_key))

    @contextmanager
    def connect(profile: Any) -> Iterator[Lake]:
        yield Lake()

    monkeypatch.setattr(streams, "connect", connect)
    file = tmp_path / "rows.ndjson"
    file.write_bytes(b'{"id": 1}\n{"id": 2}\n')
    failed = CliRunner().invoke(streams.app, ["push", str(file), "a.b", "--batch", "1"])
    assert failed.exit_code != 0
    key = sent[0][1].removesuffix("-0")
    assert f"--key {key}" in " ".join(failed.output.split())
    again = CliRunner().invoke(streams.app, ["push", str(file), "a.b", "--batch", "1", "--key", key])
    assert again.exit_code == 0, again.output
    assert [name for _, name in sent] == [f"{key}-0", "failed", f"{key}-0", f"{key}-1"]
