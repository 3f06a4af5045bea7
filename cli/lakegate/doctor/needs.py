"""What rendered manifests ask of a cluster. Read from them, so that no list of ours can lag behind the charts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lakegate.doctor.helm import Document
from lakegate.rollout.job import KEY_SECRET
from lakegate.rollout.objects import COLOUR, labels, notes_of

ROLLOUT_ROLE = "lakegate-rollout"
DNS_POLICY = "lakegate-dns"
_DEFAULT_CLASS = ""


@dataclass
class Needs:
    """Names as keys, so that each is looked up once.

    secrets: keys that are read of each; kinds: (apiVersion, kind); claims: those that no manifest here makes;
    storage: classes of the claims that are made, "" for the default one; dns_ports: None without a policy.
    """

    kinds: set[tuple[str, str]] = field(default_factory=set)
    secrets: dict[str, set[str]] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    storage: set[str] = field(default_factory=set)
    priorities: set[str] = field(default_factory=set)
    ingress: set[str] = field(default_factory=set)
    gateways: set[tuple[str, str]] = field(default_factory=set)
    rules: list[Document] = field(default_factory=list)
    policies: bool = False
    dns_ports: set[int] | None = None
    rollout: bool = False


def needs_of(documents: list[Document], namespace: str) -> Needs:
    needs = Needs()
    made: dict[str, set[str]] = {}
    for document in documents:
        made.setdefault(document["kind"], set()).add(document["metadata"]["name"])
    for document in documents:
        needs.kinds.add((document["apiVersion"], document["kind"]))
        needs.rollout = needs.rollout or COLOUR in labels(document)
        _of_kind(needs, document, namespace)
        for pod in _pods(document):
            _of_pod(needs, pod)
    needs.claims -= made.get("PersistentVolumeClaim", set())
    needs.priorities -= made.get("PriorityClass", set())
    for name in made.get("Secret", set()):
        needs.secrets.pop(name, None)
    return needs


def _of_kind(needs: Needs, document: Document, namespace: str) -> None:
    spec = document.get("spec") or {}
    match document["kind"]:
        case "PersistentVolumeClaim":
            needs.storage.add(spec.get("storageClassName") or _DEFAULT_CLASS)
        case "Service" if KEY_SECRET in notes_of(document):
            # a Job that no manifest holds reads the new release with it
            needs.secrets.setdefault(notes_of(document)[KEY_SECRET], set()).add("key")
        case "Ingress":
            needs.ingress.add(spec.get("ingressClassName") or _DEFAULT_CLASS)
            for tls in spec.get("tls") or []:
                needs.secrets.setdefault(tls["secretName"], set()).update(("tls.crt", "tls.key"))
        case "HTTPRoute":
            for parent in spec.get("parentRefs") or []:
                needs.gateways.add((parent.get("namespace") or namespace, parent["name"]))
        case "Role":
            needs.rules += document["rules"]
            needs.rollout = needs.rollout or document["metadata"]["name"] == ROLLOUT_ROLE
        case "NetworkPolicy":
            needs.policies = True
            if document["metadata"]["name"] == DNS_POLICY:
                needs.dns_ports = {port["port"] for rule in spec["egress"] for port in rule["ports"]}


def _pods(document: Document) -> Iterator[Document]:
    match document["kind"]:
        case "Pod":
            yield document["spec"]
        case "Deployment" | "StatefulSet" | "Job":
            yield document["spec"]["template"]["spec"]
        case "CronJob":
            yield document["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def _of_pod(needs: Needs, pod: Document) -> None:
    if pod.get("priorityClassName"):
        needs.priorities.add(pod["priorityClassName"])
    for pull in pod.get("imagePullSecrets") or []:
        needs.secrets.setdefault(pull["name"], set()).add(".dockerconfigjson")
    for container in [*(pod.get("initContainers") or []), *pod["containers"]]:
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                needs.secrets.setdefault(reference["name"], set()).add(reference["key"])
        for source in container.get("envFrom") or []:
            if "secretRef" in source and not source["secretRef"].get("optional"):
                needs.secrets.setdefault(source["secretRef"]["name"], set())
    for volume in pod.get("volumes") or []:
        if "secret" in volume and not volume["secret"].get("optional"):
            keys = {item["key"] for item in volume["secret"].get("items") or []}
            needs.secrets.setdefault(volume["secret"]["secretName"], set()).update(keys)
        elif "persistentVolumeClaim" in volume:
            needs.claims.add(volume["persistentVolumeClaim"]["claimName"])
        elif "ephemeral" in volume:
            claim = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
            needs.storage.add(claim.get("storageClassName") or _DEFAULT_CLASS)
