"""cluster secrets, cluster keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lakegate.failures import CommandFailed, explained
from lakegate.output import Output

app = typer.Typer(help="Lakegate in a Kubernetes cluster: what an installation needs.", no_args_is_help=True)


@app.command()
@explained
def secrets(
    postgres: Annotated[
        str,
        typer.Option(
            help="postgresql://user:password@host:5432/postgres of an administrator, as the cluster reaches it.",
            envvar="LAKEGATE_POSTGRES_URL",
            show_envvar=False,
        ),
    ],
    folder: Annotated[
        Path, typer.Option(help="Where keys and passwords are kept; what is there is used again.")
    ] = Path(".lakegate/cluster"),
    database: Annotated[str, typer.Option(help="The suite's database; made if need be.")] = "lakegate",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the Secrets.")] = "lakegate",
) -> None:
    """Write the Secrets that the charts refer to, for `kubectl apply -f -`."""
    from lakegate.cluster.secrets import ADMIN_KEY, manifests

    document = manifests(folder, postgres, database, namespace)
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    Output().errors.print(f"The administrator's key is in {folder / ADMIN_KEY}.")


@app.command()
@explained
def keys(
    folder: Annotated[Path, typer.Option(help="Where `cluster secrets` keeps keys and passwords.")] = Path(
        ".lakegate/cluster"
    ),
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the Secret.")] = "lakegate",
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make a new key; this manifest has its public half only.")
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Leave out keys of which nothing valid is left, 25 hours after the next.")
    ] = False,
) -> None:
    """Write the Secret of the signing keys alone, to rotate them without a restart (docs/signing-keys.md)."""
    from lakegate.cluster.secrets import signing_keys

    if rotate and retire:
        raise CommandFailed("--rotate and --retire are two steps, a day apart.")
    document = signing_keys(folder, namespace, rotate=rotate, retire=retire)
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    if rotate:
        Output().errors.print(
            "Apply this, give it two minutes to reach all pods, then: lakegate cluster keys | kubectl apply -f -"
        )
