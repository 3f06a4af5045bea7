"""Receipts, loads and rejected rows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from lakegate.client import Load, Reject
from lakegate.output import Column, Output
from lakegate.render import words
from lakegate_contracts.receipts import LoadState, Receipt

_STATE_STYLES = {LoadState.COMPLETED: "green", LoadState.FAILED: "bold red"}


def receipt(output: Output, receipt: Receipt) -> RenderableType:
    """What ties a load together: file, rows, snapshot, catalog version, lineage run and trace."""
    took = (receipt.completed_at - receipt.started_at).total_seconds()
    # The rate of a handful of rows would only measure the round trips.
    rate = f" · {words.count(round(receipt.rows_in / took))} rows/s" if took > 0 and receipt.rows_in > 10_000 else ""
    rows: list[tuple[str, RenderableType]] = [
        ("load", Text(str(receipt.load_id), style="bold")),
        ("table", receipt.table),
    ]
    for file in receipt.files:
        rows.append(("file", f"{file.name} ({file.format}, {words.size(file.size_bytes)})"))
        rows.append(("sha256", Text(file.sha256, style="dim")))
    rows += [
        ("rows in", words.count(receipt.rows_in)),
        ("rows written", Text(words.count(receipt.rows_written), style="bold green")),
        ("quarantined", _quarantined(receipt)),
        ("snapshot", str(receipt.snapshot_id) if receipt.snapshot_id is not None else "none"),
        ("catalog version", words.count(receipt.catalog_version)),
        ("lineage run", str(receipt.run_id)),
        ("trace", receipt.trace_id),
        ("took", f"{words.seconds(took)}{rate}"),
    ]
    title = "Receipt (dry run, nothing was written)" if receipt.dry_run else "Receipt"
    style = "green" if receipt.quarantine.rows == 0 else "yellow"
    return output.panel(title, output.pairs(rows), style=style)


def _quarantined(receipt: Receipt) -> Text:
    rows = receipt.quarantine.rows
    if rows == 0:
        return Text("0")
    return Text(f"{words.count(rows)} (lakegate rejects {receipt.load_id})", style="bold yellow")


def rejects(output: Output, items: Sequence[Reject]) -> RenderableType:
    """Where and why each row was set aside."""
    files = {item.file or "-" for item in items}
    # On a terminal room is short: one file is named once, and a reason doesn't repeat the value beside it.
    titled = output.rich and len(files) == 1
    columns = [
        Column("file"),
        Column("line", right=True),
        Column("column", style="cyan"),
        Column("value", style="yellow"),
        Column("reason", wrap=True),
    ]
    rows = [
        (
            words.value(item.file, 30),
            words.count(item.line),
            words.value(item.column) if item.column else "-",
            words.value(item.value if item.column else item.row, 34),
            words.value(_reason(item) if output.rich else item.reason, 400),
        )
        for item in items
    ]
    if titled:
        title = f"Set aside of {files.pop()}"
        return output.table(columns[1:], [row[1:] for row in rows], title=title)
    return output.table(columns, rows)


def _reason(item: Reject) -> str:
    return item.reason.removeprefix(f"'{item.value}' is ") if item.column else item.reason


def loads(output: Output, items: Sequence[Load]) -> RenderableType:
    columns = [
        Column("load"),
        Column("table", style="bold"),
        Column("state"),
        Column("rows in", right=True),
        Column("written", right=True),
        Column("quarantined", right=True),
        Column("finished"),
    ]
    return output.table(columns, (_load_row(item) for item in items))


def _load_row(item: Load) -> tuple[RenderableType, ...]:
    receipt = item.receipt
    return (
        str(item.load_id),
        words.value(item.table),
        Text(item.state, style=_STATE_STYLES.get(item.state, "yellow")),
        words.count(receipt.rows_in if receipt else None),
        words.count(receipt.rows_written if receipt else None),
        words.count(receipt.quarantine.rows if receipt else None),
        words.moment(item.finished_at),
    )
