"""cluster secrets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lakegate.failures import explained
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
