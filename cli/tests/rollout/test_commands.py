"""`lakegate rollout` as a process, on a small API server that its kubeconfig names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kube.api_server import Refusal, kubeconfig, listening
from kube.simulation import Clock, Simulation
from pydantic import ValidationError
from typer.testing import CliRunner

from lakegate.commands.rollout import app
from lakegate.rollout import requests
from lakegate.rollout.driver import Driver
from lakegate.rollout.process import MOST_SECONDS
from lakegate.rollout.states import READS, Options

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cluster() -> Simulation:
    return Simulation()


@pytest.fixture
def run(cluster: Simulation, tmp_path: Path) -> Iterator[Run]:
    with listening(cluster.server) as url:
        path = kubeconfig(url, tmp_path)

        def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "lakegate", "rollout", *words, "--namespace", "test"],
                capture_output=True,
                text=True,
                env={**os.environ, "KUBECONFIG": str(path), **environment},
                timeout=60,
                check=False,
            )

        yield command


def drive(cluster: Simulation, rollout_id: str) -> None:
    clock = Clock(cluster)
    driver = Driver(cluster.cluster(), cluster, cluster, rollout_id=rollout_id, identity="a test", clock=clock)
    assert driver.run(3600) is not None


def begun(cluster: Simulation, rollout_id: str) -> None:
    """A driver has put its name on it, and is gone."""
    clock = Clock(cluster)
    Driver(cluster.cluster(), cluster, cluster, rollout_id=rollout_id, identity="gone", clock=clock).turn()


def test_start_claims_the_service_and_makes_a_job(cluster: Simulation, run: Run) -> None:
    done = run("start", "--detach", "--json")
    assert done.returncode == 0, done.stderr
    rollout = json.loads(done.stdout)
    [made] = cluster.server.all("jobs")
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "localhost/lakegate:1"
    assert container["args"][-1] == rollout["id"]
    again = run("start", "--detach")
    assert again.returncode == 1
    assert "one at a time" in again.stderr


def test_status_and_history_tell_what_happened(cluster: Simulation, run: Run) -> None:
    drive(cluster, requests.begin(cluster.cluster(), Options(watch_seconds=5), by="a test").id)
    told = json.loads(run("status", "--json").stdout)
    assert (told["serves"], told["consumers"], told["rollout"]["phase"]) == ("green", "green", "promoted")
    shown = run("status").stdout
    assert "lakegate-green-gateway" in shown
    entries = json.loads(run("history", "--json").stdout)
    assert [(entry["to_colour"], entry["outcome"]) for entry in entries] == [("green", "promoted")]
    assert "promoted" in run("history").stdout


def test_abort_is_left_for_the_driver(cluster: Simulation, run: Run) -> None:
    rollout = requests.begin(cluster.cluster(), Options(watch_seconds=5), by="a test")
    begun(cluster, rollout.id)
    assert run("abort", "--detach").returncode == 0
    drive(cluster, rollout.id)
    assert cluster.selected == "blue"
    late = run("abort")
    assert (late.returncode, "No rollout is under way" in late.stderr) == (1, True)


def test_abort_ends_what_no_driver_has_begun(cluster: Simulation, run: Run) -> None:
    rollout = requests.begin(cluster.cluster(), Options(), by="a test")
    done = run("abort", "--json")
    assert (done.returncode, json.loads(done.stdout)["phase"]) == (0, "rolled-back"), done.stderr
    assert [entry.id for entry in cluster.cluster().active().history] == [rollout.id]
    # its Job may come late
    drive(cluster, rollout.id)
    assert (cluster.selected, cluster.replicas("blue")) == ("blue", 3)


def test_abort_says_so_when_nobody_drives(cluster: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = requests.begin(cluster.cluster(), Options(), by="a test")
    begun(cluster, rollout.id)
    monkeypatch.setattr("lakegate.commands.rollout._cluster", lambda *_: cluster.cluster())
    monkeypatch.setattr("lakegate.commands.rollout._SOON_SECONDS", -1.0)
    done = CliRunner().invoke(app, ["abort"])
    assert done.exit_code == 1
    assert "`lakegate rollout resume` makes another" in " ".join(done.output.split())
    drive(cluster, rollout.id)
    assert cluster.cluster().active().history[-1].reason == "aborted by request"


def test_a_job_that_is_refused_leaves_no_rollout_behind(cluster: Simulation, run: Run) -> None:
    def refuse(kind: str, name: str) -> None:
        if kind == "jobs":
            raise Refusal(403, "exceeded quota: count/jobs.batch")

    cluster.server.before_write = refuse
    done = run("start")
    assert done.returncode == 1
    assert "exceeded quota" in done.stderr
    assert "Nothing is under way" in " ".join(done.stderr.split())
    cluster.server.before_write = lambda kind, name: None
    assert run("start", "--detach").returncode == 0


def test_undo_needs_something_to_undo_and_goes_back_to_it(cluster: Simulation, run: Run) -> None:
    assert "nothing to undo" in run("undo").stderr
    drive(cluster, requests.begin(cluster.cluster(), Options(watch_seconds=5), by="a test").id)
    done = run("undo", "--detach", "--json")
    assert done.returncode == 0, done.stderr
    drive(cluster, json.loads(done.stdout)["id"])
    assert cluster.selected == "blue"


def test_without_a_credential_nothing_is_begun(cluster: Simulation, run: Run) -> None:
    here = run("start", "--here", LAKEGATE_KEY="")
    assert (here.returncode, "no credential" in here.stderr, "LAKEGATE_KEY" in here.stderr) == (1, True, True)
    service = cluster.server.get("services", "lakegate")
    del service["metadata"]["annotations"]["lakegate.io/rollout-key-secret"]
    cluster.server.put("services", service)
    for words in (("start", "--detach"), ("start", "charts/lakegate", "--detach"), ("undo", "--detach")):
        done = run(*words)
        assert (done.returncode, "base.rollout.keySecret" in done.stderr) == (1, True), done.stderr
    assert cluster.cluster().active().rollout is None
    assert cluster.server.all("jobs") == []


def test_the_job_reads_with_the_key_of_the_secret_that_the_base_release_names(cluster: Simulation, run: Run) -> None:
    assert run("start", "--detach", "--path", "/v1/tables/a/b/rows?limit=1").returncode == 0
    [made] = cluster.server.all("jobs")
    [key] = [v for v in made["spec"]["template"]["spec"]["containers"][0]["env"] if v["name"] == "LAKEGATE_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "lakegate-reader-key", "key": "key", "optional": True}
    rollout = cluster.cluster().active().rollout
    assert rollout is not None
    assert rollout.options.reads == (*READS, "/v1/tables/a/b/rows?limit=1")


@pytest.mark.parametrize(
    ("release", "said"), [("green", "holds {colour} between dashes"), ("acme-{colour}", "is called lakegate-blue")]
)
def test_a_release_that_can_not_follow_the_one_that_serves_is_refused_before_helm_runs(
    cluster: Simulation, run: Run, release: str, said: str
) -> None:
    done = run("start", "charts/lakegate", "--release", release, PATH="/nowhere")
    assert (done.returncode, said in " ".join(done.stderr.split())) == (1, True), done.stderr
    assert cluster.cluster().active().rollout is None


def test_a_route_past_the_service_is_shown_and_refused_before_helm_runs(cluster: Simulation, run: Run) -> None:
    rule = {"backendRefs": [{"name": "lakegate-blue-gateway", "port": 8080}]}
    cluster.server.put("httproutes", {"metadata": {"name": "direct"}, "spec": {"rules": [rule]}})
    assert "HTTPRoute direct leads to lakegate-blue-gateway" in run("status").stdout
    shown = json.loads(run("status", "--json").stdout)["past"]
    assert shown == [{"route": "direct", "service": "lakegate-blue-gateway"}]
    done = run("start", "charts/lakegate", "--image-tag", "2", PATH="/nonexistent")
    assert (done.returncode, "helm is not on PATH" in done.stderr) == (1, False)
    assert "HTTPRoute direct leads to" in done.stderr


def test_without_helm_a_chart_is_refused_before_anything_is_claimed(cluster: Simulation, run: Run) -> None:
    done = run("start", "charts/lakegate", PATH="/nowhere")
    assert done.returncode == 1
    assert "--no-install" not in done.stderr
    assert "helm is not on PATH" in done.stderr
    assert cluster.cluster().active().rollout is None


def test_options_that_contradict_each_other_are_a_usage_error(run: Run) -> None:
    done = run("start", "--canary", "50", "--canary", "10")
    assert done.returncode == 2
    assert "rise" in done.stderr


def test_no_cluster_is_said_in_a_sentence(run: Run, tmp_path: Path) -> None:
    done = run("status", KUBECONFIG=str(tmp_path / "none"))
    assert (done.returncode, "No Kubernetes cluster is known here" in done.stderr) == (6, True)


def test_a_driver_lives_for_longer_than_the_longest_phase() -> None:
    """The next one would count the window from its beginning, so that it would never be over."""
    longest = Options(watch_seconds=86_400, load_seconds=1800)
    assert 2 * longest.watch_seconds + longest.load_seconds < MOST_SECONDS
    with pytest.raises(ValidationError):
        Options(watch_seconds=longest.watch_seconds + 1)
