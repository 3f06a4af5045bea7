"""stream push, stream tail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

import typer

from lakegate.failures import USAGE, CommandFailed, explained
from lakegate.options import AsJson, ProfileName, connect
from lakegate.output import Output
from lakegate.text import styled

app = typer.Typer(help="Rows into tables as they happen, by Kafka.", no_args_is_help=True)
# What a server takes at once is 10,000 rows and 16 MiB.
_MOST_ROWS = 10_000
_MOST_BYTES = 8 << 20


@app.command()
@explained
def push(
    file: Annotated[str, typer.Argument(help="One JSON object a line; - for standard input.", metavar="FILE")],
    table: Annotated[str, typer.Argument(help="namespace.table, as in shop.orders")],
    on_bad_row: Annotated[str, typer.Option(help="refuse what is sent with it, or quarantine the row.")] = "refuse",
    batch: Annotated[int, typer.Option(help="Rows sent at once.", min=1, max=_MOST_ROWS)] = 1000,
    key: Annotated[
        str | None,
        typer.Option(help="Of a run that failed: what was taken is not taken again, for a day.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Send rows; each batch is acknowledged by the brokers before the next one goes."""
    if on_bad_row not in ("refuse", "quarantine"):
        raise CommandFailed("--on-bad-row is refuse or quarantine.", code=USAGE)
    policy: Literal["refuse", "quarantine"] = "refuse" if on_bad_row == "refuse" else "quarantine"
    output = Output(as_json=as_json)
    sent = 0
    key = key or uuid4().hex
    with ExitStack() as stack:
        lake = stack.enter_context(connect(profile))
        lines = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        for number, (body, rows) in enumerate(batches(lines, batch)):
            try:
                lake.send_rows(table, body, on_bad_row=policy, idempotency_key=f"{key}-{number}")
            except BaseException:
                output.note(
                    f"{sent:,} rows were sent before, from the beginning of the file. To go on, run it again "
                    f"with --key {key} and the same --batch: no row is taken twice.",
                    "yellow",
                )
                raise
            sent += rows
    output.result({"table": table, "rows": sent}, f"{sent:,} rows are on their way to {table}.")


def batches(lines: Iterable[bytes], most_rows: int) -> Iterator[tuple[bytes, int]]:
    """Bodies of up to so many rows, and not too large, with their number of rows."""
    rows = (line for line in lines if not line.isspace())
    held: list[bytes] = []
    size = 0
    for row in rows:
        if held and (len(held) == most_rows or size + len(row) > _MOST_BYTES):
            yield b"".join(held), len(held)
            held, size = [], 0
        held.append(row if row.endswith(b"\n") else row + b"\n")
        size += len(row)
    if held:
        yield b"".join(held), len(held)


@app.command()
@explained
def tail(
    table: Annotated[str, typer.Argument(help="namespace.table")],
    earliest: Annotated[bool, typer.Option("--earliest", help="Begin with what Kafka still has.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many rows.")] = None,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Rows as they arrive, a line each, before they are in the table; until Ctrl-C, or ten minutes have passed."""
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        for row in islice(lake.tail(table, earliest=earliest), limit):
            shown = row.unreadable or json.dumps(row.row, ensure_ascii=False)
            output.result(row, styled((f"{row.partition}:{row.offset}", "dim"), f" {shown}"))
