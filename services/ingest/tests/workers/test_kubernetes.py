"""Large loads as Jobs of a cluster, whose pods are processes here."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from kube.api_server import ApiServer, Refusal, listening

from lakegate_ingest.settings import WorkerSettings
from lakegate_ingest.workers.kubernetes import KubernetesJobs

from .conftest import COMMIT, LOAD_TABLE, ROWS, SMALL, Serve, begun, delegated, worker_pid, workers


class Kubelet:
    """Runs the pods of Jobs as processes, with a disk of their own: what the API server's controllers would do."""

    def __init__(self, server: ApiServer, environment: dict[str, str], folder: Path) -> None:
        self._server = server
        self._environment = environment
        self._folder = folder
        self.pods: list[subprocess.Popen[bytes]] = []
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        server.after_write = self._on_write

    def _on_write(self, kind: str, name: str) -> None:
        jobs = {job["metadata"]["name"]: job for job in self._server.all("jobs")}
        for name, job in jobs.items():
            if name not in self.running:
                self.running[name] = self._start(job)
        for name in set(self.running) - set(jobs):
            self.running.pop(name).terminate()

    def _start(self, job: dict[str, Any]) -> subprocess.Popen[bytes]:
        [container] = job["spec"]["template"]["spec"]["containers"]
        own = {item["name"]: item["value"] for item in container["env"]}
        disk = {"INGEST_SPOOL__DIR": str(self._folder / f"pod-{len(self.pods)}")}
        with (self._folder / "pods.log").open("ab") as log:
            pod = subprocess.Popen(
                [sys.executable, "-m", *container["args"]],
                env={"PATH": os.environ["PATH"], **self._environment, **own, **disk},
                stdout=log,
                stderr=log,
            )
        self.pods.append(pod)
        return pod

    def close(self) -> None:
        for pod in self.pods:
            pod.kill()
            pod.wait()


@pytest.fixture
def cluster() -> Iterator[tuple[ApiServer, str]]:
    server = ApiServer()
    with listening(server) as url:
        yield server, url


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """As the chart makes it, as far as a worker is concerned."""
    container = {
        "name": "worker",
        "image": "localhost/lakegate-ingest:1",
        "args": ["lakegate_ingest.worker"],
        "env": [],
    }
    pod = {"containers": [container], "volumes": [{"name": "spool", "emptyDir": {}}], "restartPolicy": "Never"}
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "lakegate-ingest-load", "namespace": "lake", "labels": {"app": "lakegate"}},
        "spec": {
            "backoffLimit": 2,
            "ttlSecondsAfterFinished": 600,
            "template": {"metadata": {"labels": {"app": "lakegate"}}, "spec": pod},
        },
    }
    sizes = [
        {"least_bytes": least, "resources": {"limits": {"memory": memory}}, "memory_bytes": mib << 20, "threads": 2}
        for least, memory, mib in ((0, "1Gi", 200), (5000, "4Gi", 300), (1 << 40, "64Gi", 400))
    ]
    path = tmp_path / "job.json"
    path.write_bytes(orjson.dumps({"manifest": manifest, "sizes": sizes, "spool_times": 3}))
    (tmp_path / "token").write_text("the-token\n")
    return path


@pytest.fixture
def in_cluster(cluster: tuple[ApiServer, str], job_file: Path, tmp_path: Path) -> Callable[..., WorkerSettings]:
    def make(**changes: Any) -> WorkerSettings:
        given = {"api_url": cluster[1], "job_file": job_file, "token_file": tmp_path / "token", **changes}
        return workers(mode="kubernetes", **given)

    return make


@pytest.fixture
def kubelet(cluster: tuple[ApiServer, str], settings: Any, gate: Any, tmp_path: Path, job_file: Path) -> Iterator[Any]:
    environment = settings.environment(
        gate.url, tmp_path / "none",
        INGEST_JOB__LEASE_SECONDS="3", INGEST_WORKER__BEAT_SECONDS="0.1", INGEST_WORKER__MODE="kubernetes",
        INGEST_WORKER__JOB_FILE=str(job_file),
    )  # fmt: skip
    made = Kubelet(cluster[0], environment, tmp_path)
    yield made
    made.close()


async def test_a_large_load_becomes_a_job_that_says_what_it_needs(
    serve: Serve, cluster: tuple[ApiServer, str], in_cluster: Any, kubelet: Kubelet, gate: Any
) -> None:
    server, _ = cluster
    async with serve(in_cluster()) as api:
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        [job] = server.all("jobs")
        load_id = await begun(api)
        assert job["metadata"]["name"] == f"lakegate-ingest-load-{UUID(load_id).hex}"
        assert job["metadata"]["labels"] == {"app": "lakegate", "lakegate.io/load": load_id}
        # this token says nothing of an account
        assert job["metadata"]["ownerReferences"] == []
        pod = job["spec"]["template"]
        assert pod["metadata"]["labels"]["lakegate.io/load"] == load_id
        [container] = pod["spec"]["containers"]
        assert container["args"] == ["lakegate_ingest.worker", load_id]
        # of the sizes, the last that this load reaches
        assert container["resources"] == {"limits": {"memory": "4Gi"}}
        variables = {item["name"]: item["value"] for item in container["env"]}
        assert variables["INGEST_ENGINE__MEMORY_BYTES"] == str(300 << 20)
        room = int(variables["INGEST_SPOOL__QUOTA_BYTES"])
        assert room == (1 << 30) + 3 * len(ROWS)
        assert int(pod["spec"]["volumes"][0]["emptyDir"]["sizeLimit"]) > room
        gate.released.set()
        await api.completed(await loading)
        assert len(await api.rows("shop.orders")) == 2000
        # its TTL removes it
        assert [found["metadata"]["name"] for found in server.all("jobs")] == [job["metadata"]["name"]]
        assert await asyncio.to_thread(kubelet.pods[0].wait, 60) == 0


async def test_calling_a_load_off_deletes_its_job_and_the_pod_says_how_it_ended(
    serve: Serve, cluster: tuple[ApiServer, str], in_cluster: Any, kubelet: Kubelet, gate: Any, leases: Any
) -> None:
    server, _ = cluster
    async with serve(in_cluster()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        load_id = await begun(api)
        await worker_pid(leases, load_id)
        assert (await api.client.delete(f"/v1/loads/{load_id}")).status_code == 202
        assert not server.all("jobs")
        answer = await loading
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/load-cancelled"), answer.text
        assert await asyncio.to_thread(kubelet.pods[0].wait, 60) == 143


async def test_a_pod_that_is_killed_is_followed_by_another_of_the_same_job(
    serve: Serve, cluster: tuple[ApiServer, str], in_cluster: Any, kubelet: Kubelet, gate: Any, leases: Any
) -> None:
    async with serve(in_cluster()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        load_id = await begun(api)
        os.kill(await worker_pid(leases, load_id), signal.SIGKILL)
        gate.on("", "", "pass")
        gate.released.set()
        [name] = kubelet.running
        # as the Job's controller does: the next pod
        kubelet.running[name] = kubelet._start(cluster[0].get("jobs", name))
        await api.completed(await loading)
        assert len(await api.rows("shop.orders")) == 2000


async def test_a_job_that_may_not_be_made_fails_the_load_with_the_reason(
    serve: Serve, cluster: tuple[ApiServer, str], in_cluster: Any
) -> None:
    def forbid(kind: str, _: str) -> None:
        raise Refusal(403, f'{kind} is forbidden: User "ingest" cannot create resource "jobs"')

    cluster[0].before_write = forbid
    async with serve(in_cluster()) as api:
        answer = await api.load("shop.orders", ROWS)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/worker-unavailable")
        assert "a quota is used up, or ingest's role may not make Jobs" in answer.json()["detail"]
        assert "User" not in answer.text
        assert (await api.load("shop.orders", SMALL)).status_code == 201


async def test_a_job_that_never_starts_fails_the_load_after_a_time_and_goes(
    serve: Serve, cluster: tuple[ApiServer, str], in_cluster: Any
) -> None:
    before = delegated("not started")
    async with serve(in_cluster(start_seconds=1)) as api:
        answer = await api.load("shop.orders", ROWS)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/worker-unavailable")
        assert "no pod was made for its Job" in answer.json()["detail"]
        assert not cluster[0].all("jobs")
    assert delegated("not started") == before + 1


async def test_a_job_that_failed_before_is_made_anew(
    serve: Serve, cluster: tuple[ApiServer, str], in_cluster: Any, kubelet: Kubelet
) -> None:
    server, _ = cluster
    once: list[str] = []

    def fail_the_first(kind: str, name: str) -> None:
        if not once:
            [job] = server.all("jobs")
            once.append(job["metadata"]["name"])
            job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
            server.put("jobs", job)
        else:
            kubelet._on_write(kind, name)

    server.after_write = fail_the_first
    async with serve(in_cluster()) as api:
        await api.completed(await api.load("shop.orders", ROWS))
        assert len(kubelet.pods) == 1


async def test_an_api_server_that_is_away_fails_the_load_and_says_so(serve: Serve, in_cluster: Any) -> None:
    async with serve(in_cluster(api_url="http://127.0.0.1:9")) as api:
        answer = await api.load("shop.orders", ROWS)
        assert answer.json()["type"] == "/problems/worker-unavailable"
        assert "API server can't be reached" in answer.json()["detail"]


async def test_the_token_is_read_for_each_request(
    cluster: tuple[ApiServer, str], in_cluster: Any, tmp_path: Path
) -> None:
    seen: list[str] = []
    jobs = KubernetesJobs(in_cluster())

    async def remember(request: httpx.Request) -> None:
        seen.append(request.headers["authorization"])

    jobs._client.event_hooks["request"].append(remember)
    load_id = UUID(int=7)
    assert (await jobs.look(load_id)).over
    (tmp_path / "token").write_text("renewed")
    await jobs.stop(load_id)
    await jobs.close()
    assert seen == ["Bearer the-token", "Bearer renewed"]


def token(**claims: Any) -> str:
    """As the kubelet mounts it: the base64 has no padding."""
    parts = (base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in ({"alg": "RS256"}, claims))
    return ".".join((*parts, "c2lnbmF0dXJl"))


@pytest.mark.parametrize("namespace", ["lake", "lake1", "lake12"])
async def test_a_job_goes_with_the_release_that_made_it(
    cluster: tuple[ApiServer, str], in_cluster: Any, tmp_path: Path, namespace: str
) -> None:
    account = {"name": "lakegate-blue-ingest", "uid": "5f0b4a4e-9a52-4b0e-8f0c-4d6a3c1a8f77"}
    pod = {"name": "lakegate-blue-ingest-7d9f", "uid": "0d5f"}
    claims = {"kubernetes.io": {"namespace": namespace, "pod": pod, "serviceaccount": account}}
    (tmp_path / "token").write_text(token(sub="system:serviceaccount:lake:lakegate-blue-ingest", **claims))
    jobs = KubernetesJobs(in_cluster())
    await jobs.start(UUID(int=7), 1000)
    await jobs.close()
    [job] = cluster[0].all("jobs")
    # its account, and not its pod, which a rollout or a node takes away while the Job still reads
    assert job["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "ServiceAccount", **account}]


@pytest.mark.parametrize(
    "text", ["opaque", "a.b.c", "a.!!!.c", token(sub="x"), token(**{"kubernetes.io": {"pod": {}}})]
)
async def test_a_token_that_says_nothing_of_its_account_makes_jobs_without_an_owner(
    cluster: tuple[ApiServer, str], in_cluster: Any, tmp_path: Path, text: str
) -> None:
    (tmp_path / "token").write_text(text)
    jobs = KubernetesJobs(in_cluster())
    await jobs.start(UUID(int=7), 1000)
    await jobs.close()
    assert cluster[0].all("jobs")[0]["metadata"]["ownerReferences"] == []
