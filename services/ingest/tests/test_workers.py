"""Large loads in processes of their own, as children of ingest and as Jobs of a cluster."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest
from kube.api_server import ApiServer, Refusal, listening
from prometheus_client import REGISTRY

from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Unavailable
from lakegate_chassis.testing import eventually, serving
from lakegate_ingest.app import create_app
from lakegate_ingest.settings import JobSettings, WorkerSettings
from lakegate_ingest.workers import delegation, processes

ROWS = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(2000))
SMALL = b"a,b\n1,x\n2,y\n"
LEAST = 1000
COMMIT = ("POST", "/tables/orders")
LOAD_TABLE = ("GET", "/tables/orders")
# quick to hear of a death
JOBS = JobSettings(sweep_seconds=0.3, heartbeat_seconds=0.2, lease_seconds=3, sse_heartbeat_seconds=0.2)
Serve = Callable[..., Any]


def delegated(outcome: str) -> float:
    return REGISTRY.get_sample_value("lakegate_ingest_delegated_loads_total", {"outcome": outcome}) or 0.0


def workers(**changes: Any) -> WorkerSettings:
    return WorkerSettings(**{"mode": "subprocess", "least_bytes": LEAST, "beat_seconds": 0.1, **changes})


@pytest.fixture
def serve(settings: Any, gate: Any, tmp_path: Path, make: Any, tenant: str) -> Serve:
    """serve(worker settings) -> Api of an ingest in this process, behind the gate."""

    @asynccontextmanager
    async def run(worker: WorkerSettings) -> AsyncIterator[Any]:
        made = settings(gate.url, tmp_path / "spool", worker=worker, job=JOBS)
        async with serving(create_app(made)) as url:
            yield make(url, tenant)

    return run


@pytest.fixture
async def leases(database: Any) -> AsyncIterator[Any]:
    """leases(load id) -> the owner, None without a lease."""
    admin = await asyncpg.connect(database.admin_url)

    async def owner(load_id: str) -> str | None:
        found: str | None = await admin.fetchval("SELECT owner FROM ingest.leases WHERE load_id = $1", UUID(load_id))
        return found

    yield owner
    await admin.close()


async def begun(api: Any) -> str:
    """The id of the one load of this tenant, once there is one."""

    async def look() -> Any:
        items = (await api.client.get("/v1/loads")).json()["items"]
        return items and items[0]["load_id"]

    found: str = await eventually(look)
    return found


async def worker_pid(leases: Any, load_id: str) -> int:
    async def look() -> int | None:
        owner = await leases(load_id)
        return int(owner.split(":")[3]) if owner and owner.startswith(f"worker:{load_id}:") else None

    found = await eventually(look, within_seconds=30)
    assert found is not None
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_load_over_the_threshold_is_run_by_a_process_of_its_own(
    serve: Serve, gate: Any, leases: Any, tmp_path: Path
) -> None:
    async with serve(workers()) as api:
        before = delegated("ended")
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        assert delegated("ended") == before
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        load_id = (await api.client.get("/v1/loads")).json()["items"][0]["load_id"]
        pid = await worker_pid(leases, load_id)
        assert pid != os.getpid()
        # this process tells of a load that it does not run
        await eventually(lambda: _is(api, load_id, "committing"))
        gate.released.set()
        answer = await loading
        assert answer.status_code == 201, answer.text
        assert answer.json()["rows_written"] == 2000
        assert len(await api.rows("shop.orders")) == 2002
        assert delegated("ended") == before + 1
        await eventually(lambda: not (tmp_path / "spool" / load_id).exists())
        await eventually(lambda: not is_alive(pid))


async def _is(api: Any, load_id: str, state: str) -> bool:
    return bool((await api.client.get(f"/v1/loads/{load_id}")).json()["state"] == state)


async def test_its_progress_is_followed_here_and_by_whoever_asks(serve: Serve, gate: Any, leases: Any) -> None:
    async with serve(workers()) as api:
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS, prefer="wait=0"))
        load_id = (await loading).json()["load_id"]
        lines: list[str] = []

        async def follow() -> None:
            async with api.client.stream("GET", f"/v1/loads/{load_id}/events") as answer:
                lines.extend([line async for line in answer.aiter_lines()])

        following = asyncio.create_task(follow())
        await gate.reached.wait()
        await eventually(lambda: any('"state":"committing"' in line for line in lines))
        read = orjson.loads(next(line for line in reversed(lines) if "committing" in line).removeprefix("data: "))
        assert read["bytes_read"] == len(ROWS)
        gate.released.set()
        await following
        names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        assert names[-1] == "completed"
        assert "progress" in names


async def test_a_worker_killed_at_the_commit_is_followed_by_another_and_the_rows_are_there_once(
    serve: Serve, gate: Any, leases: Any
) -> None:
    async with serve(workers()) as api:
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        before = delegated("gone")
        gate.on(*COMMIT, "hold-answer")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        load_id = (await api.client.get("/v1/loads")).json()["items"][0]["load_id"]
        first = await worker_pid(leases, load_id)
        os.kill(first, signal.SIGKILL)
        gate.on("", "", "pass")
        gate.released.set()
        answer = await loading
        assert answer.status_code == 201, answer.text
        assert len(await api.rows("shop.orders")) == 2002
        assert delegated("gone") == before + 1


async def test_a_worker_killed_while_it_reads_is_followed_by_another(serve: Serve, gate: Any, leases: Any) -> None:
    async with serve(workers()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        first = await worker_pid(leases, await begun(api))
        os.kill(first, signal.SIGKILL)
        gate.on("", "", "pass")
        gate.released.set()
        assert (await loading).status_code == 201
        assert len(await api.rows("shop.orders")) == 2000


async def test_a_worker_outlives_the_process_that_started_it(
    start_ingest: Any, gate: Any, make: Any, tenant: str, leases: Any
) -> None:
    environment = {"INGEST_WORKER__MODE": "subprocess", "INGEST_WORKER__LEAST_BYTES": str(LEAST)}
    ingest = await start_ingest(gate.url, **environment)
    api = make(ingest.url, tenant)
    gate.on(*COMMIT, "hold")
    loading = asyncio.create_task(api.load("shop.orders", ROWS, prefer="wait=0"))
    load_id = (await loading).json()["load_id"]
    await gate.reached.wait()
    pid = await worker_pid(leases, load_id)
    await asyncio.to_thread(ingest.kill)
    assert is_alive(pid)
    gate.released.set()

    async def over() -> bool:
        return await leases(load_id) is None

    await eventually(over, within_seconds=30)
    await ingest.start()
    assert (await api.ended(load_id))["state"] == "completed"
    assert len(await api.rows("shop.orders")) == 2000


async def test_a_worker_is_followed_through_a_time_without_the_database(
    serve: Serve, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, tried = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def failing(pool: Any, of: str) -> AsyncIterator[Any]:
        if away.is_set():
            tried.set()
            raise Unavailable("injected")
        async with tenant_transaction(pool, of) as connection:
            yield connection

    monkeypatch.setattr(delegation, "tenant_transaction", failing)
    async with serve(workers()) as api:
        gate.on(*COMMIT, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS))
        await gate.reached.wait()
        away.set()
        await tried.wait()
        away.clear()
        gate.released.set()
        assert (await loading).status_code == 201


@pytest.mark.parametrize("body", [ROWS, SMALL], ids=["by a worker", "in the service"])
async def test_a_load_that_is_called_off_ends_and_leaves_nothing(
    serve: Serve, gate: Any, leases: Any, tmp_path: Path, warehouse: Path, body: bytes
) -> None:
    async with serve(workers()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", body, idempotency_key="k"))
        await gate.reached.wait()
        load_id = await begun(api)
        pid = await worker_pid(leases, load_id) if body is ROWS else None
        gone = await api.client.delete(f"/v1/loads/{load_id}")
        assert gone.status_code == 202, gone.text
        assert gone.json()["load_id"] == load_id
        # a process that waits for the catalog hears of it as soon as that answers
        gate.on("", "", "pass")
        gate.released.set()
        answer = await loading
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/load-cancelled"), answer.text
        again = await api.client.delete(f"/v1/loads/{load_id}")
        assert (again.status_code, again.json()["type"]) == (409, "/problems/load-not-cancellable")
        await eventually(lambda: not (tmp_path / "spool" / load_id).exists())
        if pid is not None:
            await eventually(lambda: not is_alive(pid))
        assert not list((warehouse / api.tenant).rglob("*.parquet"))
        # the key is free again
        assert (await api.load("shop.orders", body, idempotency_key="k")).status_code == 201


async def test_only_who_may_load_there_calls_a_load_off(serve: Serve, gate: Any, make: Any, tenant: str) -> None:
    async with serve(workers()) as api:
        load_id = (await api.load("shop.orders", SMALL)).json()["load_id"]
        reader = make(str(api.client.base_url), tenant, ("datasets:read",))
        assert (await reader.client.delete(f"/v1/loads/{load_id}")).status_code == 403
        stranger = make(str(api.client.base_url), f"{tenant}x")
        assert (await stranger.client.delete(f"/v1/loads/{load_id}")).status_code == 404


async def test_workers_that_die_at_once_are_given_up_after_a_few(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes.sys, "executable", shutil.which("false"))
    async with serve(workers()) as api:
        load_id = (await api.load("shop.orders", ROWS, prefer="wait=0")).json()["load_id"]
        problem = (await api.ended(load_id, within_seconds=60))["problem"]
        assert (problem["status"], problem["type"]) == (503, "/problems/load-interrupted")
        assert "3 workers ended before this load did" in problem["detail"]
        assert (await api.load("shop.orders", SMALL)).status_code == 201
        await eventually(lambda: not list((tmp_path / "spool").glob("*-*-*")))


async def test_a_service_that_is_told_to_end_ends_its_workers_and_the_next_one_goes_on(
    serve: Serve, gate: Any, leases: Any
) -> None:
    async with serve(workers()) as api:
        gate.on(*LOAD_TABLE, "hold")
        loading = asyncio.create_task(api.load("shop.orders", ROWS, prefer="wait=0"))
        load_id = (await loading).json()["load_id"]
        await gate.reached.wait()
        pid = await worker_pid(leases, load_id)
        gate.on("", "", "pass")
    assert not is_alive(pid)
    gate.released.set()
    async with serve(workers()) as api:
        assert (await api.ended(load_id))["state"] == "completed"
        assert len(await api.rows("shop.orders")) == 2000


# ---- Kubernetes ----


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
        answer = await loading
        assert answer.status_code == 201, answer.text
        assert len(await api.rows("shop.orders")) == 2000
        # its TTL removes it
        assert [found["metadata"]["name"] for found in server.all("jobs")] == [job["metadata"]["name"]]
        assert await asyncio.to_thread(kubelet.pods[0].wait, 20) == 0


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
        assert await asyncio.to_thread(kubelet.pods[0].wait, 20) == 143


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
        answer = await loading
        assert answer.status_code == 201, answer.text
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
        answer = await api.load("shop.orders", ROWS)
        assert answer.status_code == 201, answer.text
        assert len(kubelet.pods) == 1


async def test_an_api_server_that_is_away_fails_the_load_and_says_so(serve: Serve, in_cluster: Any) -> None:
    async with serve(in_cluster(api_url="http://127.0.0.1:9")) as api:
        answer = await api.load("shop.orders", ROWS)
        assert answer.json()["type"] == "/problems/worker-unavailable"
        assert "API server can't be reached" in answer.json()["detail"]


async def test_the_token_is_read_for_each_request(
    cluster: tuple[ApiServer, str], in_cluster: Any, tmp_path: Path
) -> None:
    from lakegate_ingest.workers.kubernetes import KubernetesJobs

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
