"""rollout start, status, promote, abort, resume, history, undo; and drive, which the Job runs."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated

import typer

from lakegate.failures import FAILED, REFUSED, CommandFailed, explained, on_cluster
from lakegate.options import AsJson
from lakegate.output import Output
from lakegate.settings import read_environment

if TYPE_CHECKING:
    from lakegate.rollout.kubernetes import KubernetesCluster
    from lakegate.rollout.states import Rollout
    from lakegate.rollout.world import Active

app = typer.Typer(help="Blue/green on Kubernetes: switch to a new release, or back.", no_args_is_help=True)

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Where the suite is installed.")]
Context = Annotated[str | None, typer.Option("--context", help="Of the kubeconfig; else its current one.")]
Service = Annotated[str, typer.Option("--service", help="The active gateway Service.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Don't wait for the end.")]
DriverImage = Annotated[
    str | None, typer.Option("--driver-image", help="Image of the Job; else the one the base release names.")
]
Here = Annotated[bool, typer.Option("--here", help="Drive it in this process: no Job is made.")]
WatchSeconds = Annotated[float, typer.Option("--watch-seconds", help="Window after the switch; trouble rolls back.")]
NoConsumers = Annotated[bool, typer.Option("--no-consumers", help="Leave the consumers of both colours as they are.")]
CheckPaths = Annotated[
    list[str] | None,
    typer.Option("--path", help="What is read of the new colour, beside a few of each service; repeatable."),
]

_POLL_SECONDS = 1.0
_MOST_FAILURES = 60
# For a driver to show itself: a new one, whose image may have to be pulled, or one that is said to be there.
_START_SECONDS, _SOON_SECONDS = 600.0, 60.0


@app.command()
@explained
def start(
    chart: Annotated[str | None, typer.Argument(help="The chart to install first; none: a release is there.")] = None,
    image_tag: Annotated[str | None, typer.Option("--image-tag", help="With a chart: tag of the images.")] = None,
    values: Annotated[list[str] | None, typer.Option("--values", "-f", help="With a chart; repeatable.")] = None,
    release: Annotated[
        str, typer.Option("--release", help="The colour's release; both are called alike otherwise.")
    ] = "lakegate-{colour}",
    prepare_seconds: Annotated[float, typer.Option(help="For the new colour to be ready.")] = 600,
    load_requests: Annotated[int, typer.Option(help="Requests of the synthetic load, the least to judge by.")] = 300,
    canary: Annotated[
        list[int] | None, typer.Option("--canary", help="Percent by the HTTPRoute before the switch; repeatable.")
    ] = None,
    canary_seconds: Annotated[float, typer.Option(help="At each of them.")] = 60,
    route: Annotated[str | None, typer.Option(help="The HTTPRoute of a canary; else named as the Service.")] = None,
    wait: Annotated[bool, typer.Option("--wait-for-promote", help="Test, then wait for `promote`.")] = False,
    watch_seconds: WatchSeconds = 120,
    drain_seconds: Annotated[float, typer.Option(help="Before a colour without traffic goes to zero.")] = 10,
    no_consumers: NoConsumers = False,
    paths: CheckPaths = None,
    driver_image: DriverImage = None,
    here: Here = False,
    detach: Detach = False,
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    as_json: AsJson = False,
) -> None:
    """Bring up the other colour, test it, switch to it, watch it; roll back by itself if it is no good."""
    from pydantic import ValidationError

    from lakegate.rollout import helm, requests
    from lakegate.rollout.states import Options
    from lakegate.rollout.world import target

    try:
        options = Options(
            prepare_seconds=prepare_seconds,
            load_requests=load_requests,
            canary=tuple(canary or ()),
            canary_seconds=canary_seconds,
            route=(route or service) if canary else None,
            wait_for_promote=wait,
            watch_seconds=watch_seconds,
            drain_seconds=drain_seconds,
            hand_over_consumers=not no_consumers,
            reads=_reads(paths),
        )
    except ValidationError as error:
        raise typer.BadParameter("; ".join(item["msg"] for item in error.errors())) from error
    if chart is None and (image_tag or values):
        raise typer.BadParameter("--image-tag and --values go with a chart")
    with on_cluster():
        cluster = _cluster(namespace, context, service)
        active = cluster.active()
        requests.refuse_if_busy(active)
        _refuse_without_means(active, driver_image, here=here)
        if chart is not None:
            world = cluster.look()
            requests.check_release(world, release)
            requests.refuse_ways_past(world)
            requests.settle_consumers(cluster)
            colour = target(active)
            words = helm.command(
                chart, namespace, colour,
                release=release.format(colour=colour), image_tag=image_tag, values=values or (), context=context,
            )  # fmt: skip
            helm.install(words)
        rollout = requests.begin(cluster, options, by=getpass.getuser())
        _drive(cluster, rollout, driver_image, here=here, detach=detach, output=Output(as_json=as_json))


@app.command()
@explained
def undo(
    watch_seconds: WatchSeconds = 120,
    no_consumers: NoConsumers = False,
    paths: CheckPaths = None,
    driver_image: DriverImage = None,
    here: Here = False,
    detach: Detach = False,
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    as_json: AsJson = False,
) -> None:
    """Go back to the release before, if it is still there: a rollout like any other. Abort one that is under way."""
    from lakegate.rollout import requests
    from lakegate.rollout.states import Options

    output = Output(as_json=as_json)
    with on_cluster():
        cluster = _cluster(namespace, context, service)
        active = cluster.active()
        if active.rollout is not None and not active.rollout.phase.is_over:
            _abort(cluster, active.rollout, output, detach=detach)
            return
        _refuse_without_means(active, driver_image, here=here)
        before = requests.previous(cluster.look())
        options = Options(watch_seconds=watch_seconds, hand_over_consumers=not no_consumers, reads=_reads(paths))
        rollout = requests.begin(cluster, options, by=getpass.getuser(), to_colour=before)
        _drive(cluster, rollout, driver_image, here=here, detach=detach, output=output)


@app.command()
@explained
def status(
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    as_json: AsJson = False,
) -> None:
    """Which colour serves, how both stand, and where a rollout is."""
    from lakegate.render import rollout as render

    output = Output(as_json=as_json)
    with on_cluster():
        cluster = _cluster(namespace, context, service)
        world, holder = cluster.look(), cluster.holder()
    driver = holder.identity if holder else ""
    output.result(render.document(world, driver), render.status(output, world, driver))


@app.command()
@explained
def promote(
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """End a canary, a wait or the watch window early, for the new colour."""
    from lakegate.rollout import requests
    from lakegate.rollout.states import Request

    with on_cluster():
        cluster = _cluster(namespace, context, service)
        rollout = requests.ask(cluster, Request.PROMOTE)
        _follow(cluster, rollout.id, Output(as_json=as_json), detach=detach, patience_seconds=_SOON_SECONDS)


@app.command()
@explained
def abort(
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Turn back, whether before the switch or after it."""
    from lakegate.rollout import requests

    with on_cluster():
        cluster = _cluster(namespace, context, service)
        _abort(cluster, requests.current(cluster.active()), Output(as_json=as_json), detach=detach)


@app.command()
@explained
def resume(
    driver_image: DriverImage = None,
    here: Here = False,
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Give a rollout a driver again whose Job is gone. One too many waits for the Lease and does no harm."""
    from lakegate.rollout import requests

    with on_cluster():
        cluster = _cluster(namespace, context, service)
        active = cluster.active()
        rollout = requests.current(active)
        _refuse_without_means(active, driver_image, here=here)
        _drive(cluster, rollout, driver_image, here=here, detach=detach, output=Output(as_json=as_json))


@app.command()
@explained
def history(
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    as_json: AsJson = False,
) -> None:
    """The last rollouts and how they ended."""
    from lakegate.render import rollout as render

    output = Output(as_json=as_json)
    with on_cluster():
        entries = _cluster(namespace, context, service).active().history
    output.result(entries, render.history(output, entries))


@app.command(hidden=True)
@explained
def drive(
    rollout_id: Annotated[str, typer.Argument()],
    namespace: Namespace = "lakegate",
    context: Context = None,
    service: Service = "lakegate",
    metrics_port: Annotated[int | None, typer.Option(help="Serve /metrics there; none: nowhere.")] = None,
) -> None:
    """What the Job runs: one JSON line for each thing that is done."""
    from lakegate.rollout.process import Process, run

    with on_cluster():
        cluster = _cluster(namespace, context, service)
        given = read_environment()
        raise typer.Exit(run(cluster, Process(rollout_id, given.key, given.rollout_key, metrics_port)))


def _reads(paths: list[str] | None) -> tuple[str, ...]:
    from lakegate.rollout.states import READS

    return (*READS, *(paths or ()))


def _refuse_without_means(active: Active, image: str | None, *, here: bool) -> None:
    """Before anything is installed or claimed. Raises NotPossible when a driver could not do its work."""
    from lakegate.rollout.checks import NO_CREDENTIAL
    from lakegate.rollout.errors import NotPossible
    from lakegate.rollout.job import job_options

    if not here:
        job_options(active, image)
    elif read_environment().key is None:
        raise NotPossible(f"Not begun: {NO_CREDENTIAL}.")


def _cluster(namespace: str, context: str | None, service: str) -> KubernetesCluster:
    from lakegate.rollout.api import connect
    from lakegate.rollout.cluster import Names
    from lakegate.rollout.kubernetes import KubernetesCluster

    return KubernetesCluster(connect(context), Names(namespace, service))


def _abort(cluster: KubernetesCluster, rollout: Rollout, output: Output, *, detach: bool) -> None:
    """By its driver; one that no driver has begun is ended here."""
    from lakegate.render import rollout as render
    from lakegate.rollout import requests
    from lakegate.rollout.states import Request

    over = requests.withdraw(cluster, rollout.id, "aborted by request, before a driver had begun")
    if over is not None:
        output.result(over, render.outcome(over))
        return
    requests.ask(cluster, Request.ABORT)
    _follow(cluster, rollout.id, output, detach=detach, wanted="rolled-back", patience_seconds=_SOON_SECONDS)


def _drive(
    cluster: KubernetesCluster, rollout: Rollout, image: str | None, *, here: bool, detach: bool, output: Output
) -> None:
    """In a Job, or in this process."""
    from lakegate.rollout import requests
    from lakegate.rollout.errors import ApiError, NotPossible
    from lakegate.rollout.job import job, job_options
    from lakegate.rollout.process import Process, run

    if here:
        given = read_environment()
        code = run(cluster, Process(rollout.id, given.key, given.rollout_key))
        if code:
            raise typer.Exit(FAILED)
        _follow(cluster, rollout.id, output, detach=False)
        return
    try:
        cluster.start_job(job(cluster.names, rollout, job_options(cluster.active(), image)))
    except ApiError as error:
        over = requests.withdraw(cluster, rollout.id, "its Job could not be made")
        left = "Nothing is under way" if over else "It waits for `lakegate rollout resume`, or `abort`"
        raise NotPossible(f"No driver for rollout {rollout.id}: its Job could not be made. {left}. {error}") from error
    _follow(cluster, rollout.id, output, detach=detach)


def _follow(
    cluster: KubernetesCluster,
    rollout_id: str,
    output: Output,
    *,
    detach: bool,
    wanted: str = "promoted",
    patience_seconds: float = _START_SECONDS,
) -> None:
    """Tell each phase until the end; exit code 3 when it is not the one that was wanted.

    Without a driver for `patience_seconds` it fails: a rollout is not over before one has come.
    """
    from lakegate.render import rollout as render
    from lakegate.rollout.cluster import Holder
    from lakegate.rollout.errors import ApiAway

    if detach:
        output.result({"id": rollout_id}, f"{rollout_id} is under way: `lakegate rollout status` shows it.")
        return
    said, failures = "", 0
    holder: Holder | None = None
    # a driver that lives renews its Lease every few seconds; what it says of the time is its own clock's
    renewed_at = time.monotonic()
    while True:
        try:
            rollout, seen = cluster.active().rollout, cluster.holder()
        except ApiAway:
            failures += 1
            if failures > _MOST_FAILURES:
                raise
            time.sleep(_POLL_SECONDS)
            continue
        failures = 0
        if rollout is None or rollout.id != rollout_id:
            raise CommandFailed(f"Rollout {rollout_id} is over; another has begun.")
        if rollout.phase != said:
            said = rollout.phase
            output.note(render.line(rollout))
        if rollout.phase.is_over:
            output.result(rollout, render.outcome(rollout))
            if rollout.phase != wanted:
                raise typer.Exit(REFUSED)
            return
        if holder is not None and holder != seen and seen is not None and seen.identity:
            renewed_at = time.monotonic()
        holder = seen
        if time.monotonic() - renewed_at > patience_seconds:
            raise CommandFailed(
                f"Rollout {rollout_id} is {rollout.phase}, and nobody has driven it for {patience_seconds:g} s. "
                "`kubectl get jobs,pods` shows why its Job is gone or can't start; `lakegate rollout resume` makes "
                "another, which takes up what was asked for."
            )
        time.sleep(_POLL_SECONDS)
