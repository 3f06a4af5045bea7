"""Kubernetes documents as our nouns, and the names that tie them together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from lakegate.rollout.errors import RolloutError
from lakegate.rollout.states import HistoryEntry, Rollout
from lakegate.rollout.world import Active, Autoscaler, Pod, Route, Wanted, Workload, role

Document = dict[str, Any]

COLOUR = "lakegate.io/colour"
COMPONENT = "app.kubernetes.io/component"
PART_OF = "app.kubernetes.io/part-of"
VERSION = "app.kubernetes.io/version"
PREFIX = "lakegate.io/rollout"
STATE = "lakegate.io/rollout"
HISTORY = "lakegate.io/rollout-history"
OWN_MINIMUM = "lakegate.io/own-minimum"
# what the values of a colour's release ask for, which helm leaves at zero where a rollout has set that
REPLICAS = "lakegate.io/replicas"
# on an HTTPRoute that only testers use: it may lead to a preview
PREVIEW = "lakegate.io/preview"
MANAGEMENT = "management"
# whose a field is that a driver has changed
MANAGER = "lakegate-rollout"
CONSUMERS_KEY = "consumers"

# what keeps a container from ever starting, or makes it end again and again
_TROUBLES = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_COUNT = re.compile(r"[0-9]{1,9}")
_HISTORY = TypeAdapter(tuple[HistoryEntry, ...])


class _Decision(BaseModel):
    colour: str | None
    generation: int


class Unreadable(RolloutError):
    """An annotation or the ConfigMap holds what no release of ours wrote."""


def labels(document: Document) -> dict[str, str]:
    return document["metadata"].get("labels") or {}


def notes_of(document: Document) -> dict[str, str]:
    return document["metadata"].get("annotations") or {}


def active(service: Document) -> Active:
    notes = notes_of(service)
    try:
        rollout = Rollout.model_validate_json(notes[STATE]) if notes.get(STATE) else None
        history = _HISTORY.validate_json(notes[HISTORY]) if notes.get(HISTORY) else ()
    except ValidationError as error:
        raise Unreadable(f"The annotations of Service {service['metadata']['name']} can't be read: {error}") from error
    return Active(
        name=service["metadata"]["name"],
        resource_version=service["metadata"]["resourceVersion"],
        colour=(service["spec"].get("selector") or {}).get(COLOUR),
        rollout=rollout,
        history=history,
        annotated=bool(notes),
        settings={name: value for name, value in notes.items() if name.startswith(f"{PREFIX}-") and name != HISTORY},
    )


def workload(deployment: Document) -> Workload:
    spec, status = deployment["spec"], deployment.get("status") or {}
    replicas = spec.get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    ready = min(status.get("readyReplicas") or 0, status.get("updatedReplicas") or 0) if seen else 0
    late = [
        condition.get("message", condition["reason"])
        for condition in status.get("conditions") or []
        if condition["type"] == "Progressing" and condition["status"] == "False" and seen
    ]
    return Workload(
        name=deployment["metadata"]["name"],
        component=labels(deployment).get(COMPONENT, ""),
        colour=labels(deployment)[COLOUR],
        version=labels(deployment).get(VERSION, ""),
        resource_version=deployment["metadata"]["resourceVersion"],
        replicas=replicas,
        ready=ready,
        settled=seen and (status.get("replicas") or 0) == replicas,
        stuck=late[0] if late else "",
        wanted=_count(notes_of(deployment).get(REPLICAS)) or 0,
    )


def _count(note: str | None) -> int | None:
    """Anybody may have written something else there."""
    return int(note) if note is not None and _COUNT.fullmatch(note) else None


def autoscaler(hpa: Document) -> Autoscaler:
    colour = labels(hpa)[COLOUR]
    return Autoscaler(
        name=hpa["metadata"]["name"],
        role=role(hpa["spec"]["scaleTargetRef"]["name"], colour),
        colour=colour,
        resource_version=hpa["metadata"]["resourceVersion"],
        minimum=hpa["spec"].get("minReplicas", 1),
        maximum=hpa["spec"]["maxReplicas"],
        restore=_count(notes_of(hpa).get(OWN_MINIMUM)),
        ours=bool(owned(hpa)),
    )


def pod(document: Document) -> Pod:
    status = document.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    containers = status.get("containerStatuses") or []
    waiting = [(c.get("state") or {}).get("waiting") or {} for c in containers]
    trouble = next(
        (f"{w['reason']}: {w.get('message', '')}"[:300] for w in waiting if w.get("reason") in _TROUBLES), ""
    )
    runs = any("running" in (c.get("state") or {}) for c in containers)
    return Pod(
        name=document["metadata"]["name"],
        component=labels(document).get(COMPONENT, ""),
        colour=labels(document)[COLOUR],
        ready=ready,
        ending="deletionTimestamp" in document["metadata"],
        # a container that does not run has no consumers
        management=_management(document) if runs else None,
        trouble=trouble,
        over=status.get("phase") in ("Succeeded", "Failed"),
    )


def _management(document: Document) -> str | None:
    address = document["status"].get("podIP")
    if not address:
        return None
    for container in document["spec"]["containers"]:
        for port in container.get("ports") or []:
            if port.get("name") == MANAGEMENT:
                host = f"[{address}]" if ":" in address else address
                return f"http://{host}:{port['containerPort']}"
    return None


def ready_pods(slices: Iterable[Document]) -> frozenset[str]:
    """The pods that the EndpointSlices of a Service call ready."""
    return frozenset(
        endpoint["targetRef"]["name"]
        for document in slices
        for endpoint in document.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready", True) and "targetRef" in endpoint
    )


def wanted(config_map: Document) -> Wanted:
    """Without data nobody has decided yet: every colour's consumers run."""
    text = (config_map.get("data") or {}).get(CONSUMERS_KEY)
    version = config_map["metadata"]["resourceVersion"]
    if not text:
        return Wanted(None, 0, version)
    try:
        read = _Decision.model_validate_json(text)
    except ValidationError as error:
        raise Unreadable(f"ConfigMap {config_map['metadata']['name']} can't be read: {error}") from error
    return Wanted(read.colour, read.generation, version)


def owned(document: Document) -> list[int]:
    """Where in `managedFields` it says what we have changed."""
    entries = document["metadata"].get("managedFields") or []
    return [number for number, entry in enumerate(entries) if entry.get("manager") == MANAGER]


def route(document: Document, service: str, preview: str, previews: Collection[str]) -> Route:
    """Rules of other Services are none of ours; `previews` are those of both colours."""
    rules = document["spec"].get("rules") or []
    ours = tuple(number for number, rule in enumerate(rules) if refs(rule, document, service))
    shares = {name: [ref.get("weight", 1) for n in ours for ref in refs(rules[n], document, name)] for name in previews}
    return Route(
        name=document["metadata"]["name"],
        resource_version=document["metadata"]["resourceVersion"],
        share=max(shares.pop(preview), default=None),
        rules=ours,
        preview=preview,
        previews=frozenset(previews),
        stray=max((weight for weights in shares.values() for weight in weights), default=None),
        ours=bool(owned(document)),
    )


def past(routes: Iterable[Document], ours: str, service: str, previews: Collection[str]) -> dict[str, str]:
    """Previews that get traffic by rules that we may not set the weights of, with the name of the HTTPRoute.

    The weights of `ours` beside the active Service are a canary's.
    """
    found: dict[str, str] = {}
    for document in routes:
        name = document["metadata"]["name"]
        if notes_of(document).get(PREVIEW) == "true":
            continue
        for rule in document["spec"].get("rules") or []:
            if name != ours or not refs(rule, document, service):
                led = (
                    preview for preview in previews if any(r.get("weight", 1) for r in refs(rule, document, preview))
                )
                found |= dict.fromkeys(led, name)
    return found


def refs(rule: Document, route: Document, service: str) -> list[Document]:
    """The rule's refs of a Service, which is one of the route's own namespace."""
    own = route["metadata"].get("namespace")
    return [
        ref
        for ref in rule.get("backendRefs") or []
        if ref["name"] == service and ref.get("kind", "Service") == "Service" and ref.get("namespace", own) == own
    ]
