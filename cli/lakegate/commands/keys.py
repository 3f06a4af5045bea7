"""keys list, create, revoke."""

from __future__ import annotations

from typing import Annotated

import typer

from lakegate.failures import explained
from lakegate.options import AsJson, ProfileName, connect
from lakegate.output import Column, Output

app = typer.Typer(help="API keys of the tenant: list, create, revoke.", no_args_is_help=True)


@app.command("list")
@explained
def list_keys(as_json: AsJson = False, profile: ProfileName = None) -> None:
    """List the keys, without their secrets."""
    from lakegate.render import words

    output = Output(as_json=as_json)
    with connect(profile) as lake:
        items = lake.keys().items
    columns = [
        Column("id"),
        Column("name", style="bold"),
        Column("scopes", wrap=True),
        Column("expires"),
        Column("last used"),
    ]
    rows = [
        (
            item.id,
            words.value(item.name),
            " ".join(item.scopes),
            words.moment(item.expires_at),
            words.moment(item.last_used_at),
        )
        for item in items
    ]
    output.result(items, output.table(columns, rows))


@app.command()
@explained
def create(
    name: Annotated[str, typer.Argument(help="What it is for, as in partner-acme.")],
    scope: Annotated[
        list[str], typer.Option("--scope", "-s", help="As in loads:write or datasets:read@travel.*; repeatable.")
    ],
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; without it, never.")] = None,
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """Create a key; its secret is shown this once."""
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        made = lake.create_key(name, scope, expires_in_seconds=None if days is None else days * 86_400)
    output.result(made, made.key)
    if output.rich:
        output.note("Keep it now: it can't be shown again.", "dim")


@app.command()
@explained
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `lakegate keys list` shows it.")],
    as_json: AsJson = False,
    profile: ProfileName = None,
) -> None:
    """End a key at once."""
    output = Output(as_json=as_json)
    with connect(profile) as lake:
        lake.revoke_key(key_id)
    output.result({"id": key_id, "revoked": True}, f"{key_id} is revoked.")
