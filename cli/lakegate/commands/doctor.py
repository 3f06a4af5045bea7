"""doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from lakegate.failures import FAILED, explained, on_cluster
from lakegate.options import AsJson
from lakegate.output import Output


@explained
def doctor(
    chart: Annotated[
        str | None, typer.Argument(help="The chart that is to be installed; none: only the cluster itself.")
    ] = None,
    values: Annotated[list[str] | None, typer.Option("--values", "-f", help="As for helm; repeatable.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="As for helm; repeatable.")] = None,
    release: Annotated[str, typer.Option("--release", help="Name of the release.")] = "lakegate",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where it is to be installed.")] = "lakegate",
    context: Annotated[str | None, typer.Option("--context", help="Of the kubeconfig; else its current one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a Kubernetes cluster before an install: versions, storage, DNS, policies, Secrets, rights.

    It renders the chart with your values and asks the API server for all that this needs. It changes nothing. Exit
    code 1 says that something has to be mended first.
    """
    from lakegate.doctor.examine import examine
    from lakegate.doctor.findings import State
    from lakegate.doctor.helm import Chart
    from lakegate.render import doctor as render
    from lakegate.rollout.api import connect

    if chart is None and (values or sets):
        raise typer.BadParameter("--values and --set go with a chart")
    output = Output(as_json=as_json)
    wanted = Chart(chart, release, namespace, values or (), sets or ()) if chart is not None else None
    with on_cluster():
        findings = list(examine(connect(context), namespace, wanted))
    output.result(render.document(findings), render.findings(output, findings))
    if any(finding.state is State.FAILED for finding in findings):
        raise typer.Exit(FAILED)
