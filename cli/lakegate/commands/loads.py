"""push, loads, rejects."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from lakegate.failures import USAGE, CommandFailed, explained
from lakegate.options import AsJson, ProfileName, connect
from lakegate.output import Output

_FORMATS = ("csv", "tsv", "ndjson", "json", "parquet")


@explained
def push(
    file: Annotated[str, typer.Argument(help="A file, or - for standard input.", metavar="FILE")],
    table: Annotated[str, typer.Argument(help="namespace.table, as in travel.flights")],
    format: Annotated[
        str | None, typer.Option("--format", "-f", help=f"{', '.join(_FORMATS)}; else by name and content.")
    ] = None,
    null: Annotated[
        list[str] | None, typer.Option(help="A spelling of null besides the empty field; repeatable.")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between fields; else found by looking.")] = None,
    header: Annotated[
        bool, typer.Option("--header/--no-header", help="Whether the first line names the columns.")
    ] = True,
    on_new_column: Annotated[str, typer.Option(help="evolve the table, or reject the file.")] = "evolve",
    name: Annotated[str | None, typer.Option(help="The file name that the receipt shows.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Load at most once under this key (24 h). By default each push has a random one: its retries load "
            "once, a second push loads again."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the receipt, or only for the load's id.")
    ] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the receipt.", min=1)] = 3600,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Load a file into a table: CSV, TSV, NDJSON, JSON or Parquet, also gzip or zstd."""
    from lakegate.progress import follow
    from lakegate.render import loads as render

    if format is not None and format not in _FORMATS:
        raise CommandFailed(f"'{format}' is no format; one of {', '.join(_FORMATS)}.", code=USAGE)
    if on_new_column not in ("evolve", "reject"):
        raise CommandFailed("--on-new-column is evolve or reject.", code=USAGE)
    output = Output(as_json=as_json)
    options: dict[str, Any] = {
        "name": name,
        "format": format,
        "null": null or (),
        "delimiter": delimiter,
        "header": None if header else False,
        "on_new_column": on_new_column,
        "dry_run": dry_run,
    }
    if idempotency_key is not None:
        options["idempotency_key"] = idempotency_key
    source = sys.stdin.buffer if file == "-" else Path(file)
    with connect(profile) as lake:
        if not wait:
            begun = lake.start_push(source, table, **options)
            output.result(begun, str(begun.load_id))
            return
        with follow(output, name or ("standard input" if file == "-" else Path(file).name)) as follower:
            receipt = lake.push(
                source,
                table,
                on_upload=follower.on_upload,
                on_event=follower.on_event,
                timeout_seconds=timeout,
                **options,
            )
    output.result(receipt, render.receipt(output, receipt))


@explained
def loads(
    load_id: Annotated[str | None, typer.Argument(help="One load; without it, the last ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Show a load, or the last ones."""
    from lakegate.client.waiting import receipt_of
    from lakegate.render import loads as render

    output = Output(as_json=as_json)
    with connect(profile) as lake:
        if load_id is None:
            page = lake.loads(limit=limit)
            output.result(page.items, render.loads(output, page.items))
            return
        load = lake.load(load_id)
    if load.settled and not as_json:
        # A failed load raises its problem, which is then shown like that of a push.
        output.show(render.receipt(output, receipt_of(load)))
    else:
        output.result(load, render.loads(output, [load]))


@explained
def cancel(
    load_id: Annotated[str, typer.Argument(help="The load, as `lakegate loads` names it.")],
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Call off a load that is not being committed yet; nothing of it is loaded."""
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        load = lake.cancel_load(load_id)
    output.result(load, f"Called off. It ends in a moment: lakegate loads {load.load_id}")


@explained
def rejects(
    load_id: Annotated[str, typer.Argument(help="The load, as its receipt names it.")],
    limit: Annotated[int, typer.Option(min=1, help="Rows to show at most.")] = 100,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write all of them to a new file as they were sent, to mend and push."),
    ] = None,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Show the rows that a load set aside: file, line, column, value and reason."""
    from lakegate.rejected import write_rejected
    from lakegate.render import loads as render

    output = Output(as_json=as_json)
    with connect(profile) as lake:
        if output_file is not None:
            written = write_rejected(lake, load_id, output_file)
            output.result(written.document(), written.told())
            return
        found = list(islice(lake.all_rejects(load_id, page_size=min(limit + 1, 1000)), limit + 1))
    items = found[:limit]
    if not items:
        output.result([], "No row was set aside.")
        return
    output.result(items, render.rejects(output, items))
    if len(found) > limit:
        output.note(f"More than {limit}; see the next ones with --limit.", "dim")
