"""What the one who asks may do, as the API server itself decides (SelfSubjectAccessReview)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lakegate.doctor.findings import Finding, failed, fine
from lakegate.doctor.needs import Needs
from lakegate.doctor.served import Served
from lakegate.rollout.api import Api

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_CHANGE = ("get", "create", "patch", "delete")
_WAIT = ("list", "watch")
# what `helm --wait` and hooks follow to their end
_FOLLOWED = {"jobs", "deployments", "pods"}


@dataclass(frozen=True, order=True)
class Right:
    group: str
    resource: str
    verb: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


# helm keeps its releases in Secrets, and follows the pods of a Deployment through its ReplicaSets
HELM = frozenset(
    {Right("", "secrets", verb) for verb in ("get", "list", "create", "update", "delete")}
    | {Right("apps", "replicasets", verb) for verb in ("get", *_WAIT)}
    | {Right("", "pods", verb) for verb in ("get", *_WAIT)}
)
# `lakegate rollout`, whether its driver runs in a Job or here
ROLLOUT = frozenset(
    {Right("batch", "jobs", "create"), Right("", "pods", "list"), Right("", "events", "create")}
    | {Right("", resource, verb) for resource in ("services", "configmaps") for verb in ("get", "patch")}
    | {Right("apps", "deployments", verb) for verb in ("get", "list", "patch")}
    | {Right("autoscaling", "horizontalpodautoscalers", verb) for verb in ("get", "list", "patch")}
    | {Right("discovery.k8s.io", "endpointslices", "list")}
    | {Right("coordination.k8s.io", "leases", verb) for verb in ("get", "create", "patch")}
)


def rights(api: Api, served: Served, namespace: str, needs: Needs) -> Iterator[Finding]:
    """Of who asks, for `helm install` and upgrades; for a rollout where there are colours."""
    yield from _look(api, namespace, "install", set(_install(served, needs)) | HELM)
    if needs.rollout:
        yield from _look(api, namespace, "rollout", ROLLOUT)


def _install(served: Served, needs: Needs) -> Iterator[Right]:
    for version, kind in needs.kinds:
        resource = served.resource(version, kind)
        if resource is None:
            continue  # told already: the kind is not served
        verbs = (*_CHANGE, *_WAIT) if resource.name in _FOLLOWED else _CHANGE
        for verb in verbs:
            yield Right(resource.group, resource.name, verb, resource.namespaced)
    # who makes a Role has to hold each of its rights
    for rule in needs.rules:
        for group in rule["apiGroups"]:
            for resource_name in rule["resources"]:
                for verb in rule["verbs"]:
                    yield Right(group, resource_name, verb)


def _look(api: Api, namespace: str, purpose: str, wanted: Iterable[Right]) -> Iterator[Finding]:
    asked = sorted(wanted)
    lacking = [right for right in asked if not _may(api, namespace, right)]
    for right in lacking:
        where = f"in {namespace}" if right.namespaced else "in the whole cluster"
        yield failed("rights", f"{purpose}: you may not {right}", f"Have a role bound that allows it {where}.")
    if not lacking:
        yield fine("rights", f"{purpose}: all {len(asked)} that it takes")


def _may(api: Api, namespace: str, right: Right) -> bool:
    attributes = {"group": right.group, "resource": right.resource, "verb": right.verb}
    if right.namespaced:
        attributes["namespace"] = namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(api.call("POST", _REVIEWS, body=body)["status"].get("allowed"))
