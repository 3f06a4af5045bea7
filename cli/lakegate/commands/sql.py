"""sql: DuckDB over the tables as PyIceberg reads them through the gateway."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from lakegate.failures import explained
from lakegate.options import AsJson, ProfileName, chosen_profile
from lakegate.output import Output


@explained
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; tables are namespace.table.")],
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows to show at most.")] = 100,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Ask in SQL: the tables are read through the gateway's Iceberg REST endpoint, with the same key."""
    from lakegate.lakehouse import Lakehouse
    from lakegate.render import rows as render
    from lakegate.render import words

    output = Output(as_json=as_json)
    begun = time.monotonic()
    with Lakehouse(chosen_profile(profile)) as lakehouse:
        answer = lakehouse.ask(query, limit)
    output.result(answer.document(), render.answer(output, answer))
    if output.rich:
        more = f", cut at {limit} (--limit)" if answer.truncated else ""
        output.note(f"{words.count(len(answer.rows))} rows in {words.seconds(time.monotonic() - begun)}{more}", "dim")
    elif answer.truncated and not as_json:
        output.errors.print(f"cut at {limit} rows; see more with --limit")
