"""The Job that drives a rollout."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lakegate.rollout.cluster import Names
from lakegate.rollout.errors import NotPossible
from lakegate.rollout.objects import COMPONENT, PART_OF, PREFIX
from lakegate.rollout.states import Rollout
from lakegate.rollout.world import Active

METRICS_PORT = 9090
# what pods believe a decision on consumers by; its `key` is mounted into them, too
ROLLOUT_KEY_SECRET = "lakegate-rollout-key"
IMAGE, SERVICE_ACCOUNT, KEY_SECRET = f"{PREFIX}-image", f"{PREFIX}-service-account", f"{PREFIX}-key-secret"
PLACEMENT = f"{PREFIX}-placement"
_DAY_SECONDS = 86_400
# each is a driver that died: a back-off that doubles from 10 s makes this about an hour
_MOST_DEATHS = 10


class Placement(BaseModel):
    """Where the driver's pod may run, and what gives way to it, in the words of a pod's spec."""

    model_config = ConfigDict(extra="forbid")

    nodeSelector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    priorityClassName: str = ""


@dataclass(frozen=True)
class JobOptions:
    """`key_secret` names a Secret whose `key` is the API key that the driver reads with."""

    image: str
    service_account: str
    key_secret: str
    placement: Placement = field(default_factory=Placement)


def job_options(active: Active, image: str | None) -> JobOptions:
    """What the base release notes on the active Service. Raises NotPossible when it names no image or no credential."""
    chosen = image or active.settings.get(IMAGE)
    if not chosen:
        raise NotPossible(
            f"No image for the driver: the active Service has no annotation {IMAGE}. Give --driver-image, or drive it "
            "from here with --here."
        )
    key_secret = active.settings.get(KEY_SECRET)
    if not key_secret:
        raise NotPossible(
            f"No credential for the driver: the active Service has no annotation {KEY_SECRET}. Without one a new "
            "release can't be tested. Set base.rollout.keySecret to a Secret whose `key` is an API key with the scopes "
            "datasets:read and lineage:read (`lakegate cluster secrets` makes lakegate-reader-key), and upgrade the "
            "base release."
        )
    account = active.settings.get(SERVICE_ACCOUNT, "lakegate-rollout")
    return JobOptions(chosen, account, key_secret, _placement(active))


def _placement(active: Active) -> Placement:
    text = active.settings.get(PLACEMENT)
    try:
        return Placement.model_validate_json(text) if text else Placement()
    except ValidationError as error:
        raise NotPossible(
            f"The annotation {PLACEMENT} of the active Service can't be read: {error}. Upgrade the base release, which "
            "writes it (global.nodeSelector, global.tolerations, global.priorityClassName), or drive it from here with "
            "--here."
        ) from error


def job(names: Names, rollout: Rollout, options: JobOptions) -> dict[str, Any]:
    """The manifest, under a new name each time: a second Job of one rollout waits for the Lease of the first."""
    arguments = ["--namespace", names.namespace, "--service", names.service]
    arguments += ["--metrics-port", str(METRICS_PORT), rollout.id]
    environment: list[dict[str, Any]] = [{"name": "PYTHONUNBUFFERED", "value": "1"}]
    # Optional, since a pod without its Secret waits for ever and says nothing: the driver says what is missing and ends
    # the rollout before the switch.
    reading = {"name": options.key_secret, "key": "key", "optional": True}
    environment.append({"name": "LAKEGATE_KEY", "valueFrom": {"secretKeyRef": reading}})
    signing = {"name": ROLLOUT_KEY_SECRET, "key": "key", "optional": True}
    environment.append({"name": "LAKEGATE_ROLLOUT_KEY", "valueFrom": {"secretKeyRef": signing}})
    container = {
        "name": "driver",
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "lakegate.rollout"],
        "args": arguments,
        "env": environment,
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        # measured: 60 MiB at work, most of it the Kubernetes client
        "resources": {
            "requests": {"cpu": "50m", "memory": "80Mi"},
            "limits": {"cpu": "500m", "memory": "192Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    labels = {PART_OF: names.suite, COMPONENT: "rollout"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": options.service_account,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 15,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            **options.placement.model_dump(exclude_defaults=True),
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{names.lease}-{rollout.id}-{secrets.token_hex(2)}",
            "namespace": names.namespace,
            "labels": labels,
        },
        "spec": {
            "backoffLimit": _MOST_DEATHS,
            "ttlSecondsAfterFinished": _DAY_SECONDS,
            "template": pod,
        },
    }
