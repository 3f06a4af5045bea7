"""Workers as Kubernetes Jobs: what a Job is like is the chart's, in a file; what a load adds to it is here.

Four calls of the API server by httpx, which is there anyway: the `kubernetes` package is 40 MB of models.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import ssl
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakegate_chassis.logs import log
from lakegate_ingest.errors import WorkerUnavailable
from lakegate_ingest.settings import GIB, WorkerSettings
from lakegate_ingest.workers.port import Look

LOAD_LABEL = "lakegate.io/load"
CONTAINER = "worker"
SPOOL = "spool"
TIMEOUT_SECONDS = 5.0
# a name of 63 characters, which a pod's label can hold as well: 30, a dash and the load's 32
_LONGEST_PREFIX = 30
_TRIES = 4
_PAUSE_SECONDS = 0.5
# the API server answers these when it can't work just now
_AWAY = frozenset({429, 500, 502, 503, 504})


# Of the file's parts what is not known is left alone: a later release writes more into it, while pods of this one run.
class Size(BaseModel):
    """What a worker gets for loads from `least_bytes` on; the last one that fits counts."""

    model_config = ConfigDict(frozen=True)

    least_bytes: int = Field(ge=0)
    resources: dict[str, dict[str, str]]
    memory_bytes: int = Field(gt=0, description="of the engine: INGEST_ENGINE__MEMORY_BYTES")
    threads: int = Field(ge=1)


class JobFile(BaseModel):
    """`manifest` is a Job with the container `worker` and the volume `spool`, an emptyDir."""

    model_config = ConfigDict(frozen=True)

    manifest: dict[str, Any]
    sizes: tuple[Size, ...] = Field(min_length=1)
    spool_times: float = Field(ge=1, description="room in the spool, as so many times the size of the files")

    def size(self, size_bytes: int) -> Size:
        fitting = [size for size in self.sizes if size.least_bytes <= size_bytes]
        return max(fitting or self.sizes[:1], key=lambda size: size.least_bytes)


class _Account(BaseModel):
    name: str
    uid: str


class _Bound(BaseModel):
    serviceaccount: _Account


class Claims(BaseModel):
    """Of a token that the kubelet mounts, as far as it says whose it is."""

    bound: _Bound = Field(alias="kubernetes.io")


class KubernetesJobs:
    """Every replica may look at, make and delete the Job of a load: its name says which."""

    same_disk = False

    def __init__(self, settings: WorkerSettings) -> None:
        assert settings.job_file is not None
        self._job_file = settings.job_file
        self._token_file = settings.token_file
        metadata = _read_job(self._job_file).manifest["metadata"]
        self._prefix = metadata["name"][:_LONGEST_PREFIX].rstrip("-")
        self._path = f"/apis/batch/v1/namespaces/{metadata['namespace']}/jobs"
        self._client = httpx.AsyncClient(
            base_url=settings.api_url, verify=_authorities(settings), timeout=TIMEOUT_SECONDS, trust_env=False
        )

    def name(self, load_id: UUID) -> str:
        return f"{self._prefix}-{load_id.hex}"

    async def start(self, load_id: UUID, size_bytes: int) -> None:
        # read each time: it is a mounted ConfigMap, which an upgrade changes
        file = await asyncio.to_thread(_read_job, self._job_file)
        for _ in range(_TRIES):
            answer = await self._call("POST", self._path, await self._job(file, load_id, size_bytes))
            if answer.status_code == 201:
                log.info("worker_job_made", load_id=str(load_id), job=self.name(load_id))
                return
            if answer.status_code != 409:
                raise self._refused(load_id, answer)
            found = await self._call("GET", self._of(load_id))
            if found.status_code == 200 and not _is_over(found.json()):
                return
            # one that is over, of an earlier try: a new one gets its name as soon as it is gone
            await self.stop(load_id)
            await asyncio.sleep(_PAUSE_SECONDS)
        raise WorkerUnavailable("A finished Job of this load is still being deleted. Try again later.")

    async def look(self, load_id: UUID) -> Look:
        answer = await self._call("GET", self._of(load_id))
        if answer.status_code == 404:
            return Look(over=True, words="its Job was deleted")
        if answer.status_code != 200:
            raise self._refused(load_id, answer)
        job = answer.json()
        status = job.get("status") or {}
        for condition in status.get("conditions") or []:
            if condition["status"] == "True" and condition["type"] in ("Failed", "Complete"):
                reason = condition.get("reason") or condition["type"]
                return Look(over=True, words=f"its Job ended: {reason}")
        if status.get("ready"):
            return Look(over=False, words="its pod runs")
        if status.get("active"):
            return Look(over=False, words="its pod did not start: no room on a node, or the image could not be had")
        if status.get("failed"):
            return Look(over=False, words="its pod failed, and the next one is not made yet")
        return Look(over=False, words="no pod was made for its Job: a quota or an admission policy does not allow it")

    async def stop(self, load_id: UUID) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        answer = await self._call("DELETE", self._of(load_id), body)
        if answer.status_code not in (200, 202, 404):
            raise self._refused(load_id, answer)

    async def forget(self, load_id: UUID) -> None:
        """Its TTL removes it, so that its log can be read for a while."""

    async def close(self) -> None:
        # the Jobs go on: another replica, or this one when it is back, follows them
        await self._client.aclose()

    async def _job(self, file: JobFile, load_id: UUID, size_bytes: int) -> dict[str, Any]:
        """The chart's Job, for this load: name, owner, labels, arguments, and resources by its size."""
        job: dict[str, Any] = copy.deepcopy(file.manifest)
        job["metadata"]["name"] = self.name(load_id)
        job["metadata"]["ownerReferences"] = _owners(await asyncio.to_thread(_read, self._token_file))
        pod = job["spec"]["template"]
        for metadata in (job["metadata"], pod["metadata"]):
            metadata.setdefault("labels", {})[LOAD_LABEL] = str(load_id)
        size = file.size(size_bytes)
        room = round(size_bytes * file.spool_times) + GIB
        [container] = [item for item in pod["spec"]["containers"] if item["name"] == CONTAINER]
        container["args"] = [*container["args"], str(load_id)]
        container["resources"] = size.resources
        container["env"] += [
            {"name": "INGEST_ENGINE__MEMORY_BYTES", "value": str(size.memory_bytes)},
            {"name": "INGEST_ENGINE__THREADS", "value": str(size.threads)},
            {"name": "INGEST_SPOOL__QUOTA_BYTES", "value": str(room)},
        ]
        [spool] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == SPOOL]
        # beyond it the pod is evicted; the engine's own files are in there too, so it is more than the quota
        spool["emptyDir"]["sizeLimit"] = str(room + GIB)
        return job

    def _of(self, load_id: UUID) -> str:
        return f"{self._path}/{self.name(load_id)}"

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Raises WorkerUnavailable when the API server can't be reached, or says so itself, several times."""
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
            try:
                token = await asyncio.to_thread(_read, self._token_file)
                headers = {"authorization": f"Bearer {token}"} if token else {}
                answer = await self._client.request(method, path, json=body, headers=headers)
            except (httpx.HTTPError, OSError) as error:
                reason = type(error).__name__
                continue
            if answer.status_code not in _AWAY:
                return answer
            reason = str(answer.status_code)
        log.warning("api_server_away", method=method, path=path, reason=reason)
        raise WorkerUnavailable("The cluster's API server can't be reached, so no Job can be made. Try again later.")

    def _refused(self, load_id: UUID, answer: httpx.Response) -> WorkerUnavailable:
        """The server's own words are the operator's; whoever sent the load learns what it comes to."""
        log.error("worker_refused", load_id=str(load_id), status=answer.status_code, message=answer.text[:1000])
        if answer.status_code in (401, 403):
            return WorkerUnavailable(
                f"The cluster refused the Job of this load ({answer.status_code}): a quota is used up, or ingest's "
                "role may not make Jobs."
            )
        return WorkerUnavailable(f"The cluster does not take the Job of this load ({answer.status_code}).")


def _is_over(job: dict[str, Any]) -> bool:
    if "deletionTimestamp" in job["metadata"]:
        return True
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(item["status"] == "True" and item["type"] in ("Failed", "Complete") for item in conditions)


def _authorities(settings: WorkerSettings) -> ssl.SSLContext | bool:
    if not settings.api_url.startswith("https:"):
        return False
    return ssl.create_default_context(cafile=str(settings.ca_file))


def _read_job(path: Path) -> JobFile:
    return JobFile.model_validate_json(path.read_bytes())


def _owners(token: str) -> list[dict[str, Any]]:
    """Our ServiceAccount: it goes with the release and stays when pods do. None where the token doesn't say its uid.

    The token tells, so no right to look at ServiceAccounts is needed. That it is genuine the API server knows.
    """
    try:
        body = token.split(".")[1]
        claims = Claims.model_validate_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError, ValidationError):
        return []
    account = claims.bound.serviceaccount
    return [{"apiVersion": "v1", "kind": "ServiceAccount", "name": account.name, "uid": account.uid}]


def _read(path: Path) -> str:
    return path.read_text().strip()
