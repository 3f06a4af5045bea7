"""What rendered manifests ask of a cluster. Read from them, so that no list of ours can lag behind the charts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from lakegate.doctor.helm import Document
from lakegate.rollout.job import KEY_SECRET
from lakegate.rollout.objects import COLOUR, PART_OF, labels, notes_of

ROLLOUT_ROLE = "lakegate-rollout"
DNS_POLICY = "lakegate-dns"
# whose peers are a controller's or Prometheus' namespace; the second only matters where something is to be scraped
CLIENTS_POLICY, METRICS_POLICY = "lakegate-gateway-clients", "lakegate-metrics"
# what talks to the API server
API_POLICIES = ("lakegate-rollout", "lakegate-ingest-calls-api-server")
_DEFAULT_CLASS = ""
_NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass
class Needs:
    """Names as keys, so that each is looked up once.

    secrets: keys that are read of each; kinds: (apiVersion, kind); claims: those that no manifest here makes;
    storage: classes of the claims that are made, "" for the default one; dns_ports: None without a policy;
    servers: data servers that pods are told to use, each with the variable that says so, by the name of its policy;
    namespaces: those that policies name as peers, each with its policy; api_server: rules of policies towards it.
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
    servers: dict[str, str] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)
    api_server: list[Document] = field(default_factory=list)
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
        if document["kind"] == "ServiceAccount":
            _of_pulls(needs, document)
        for pod in _pods(document):
            _of_pod(needs, pod)
    if not {"ServiceMonitor", "PodMonitor"} & made.keys():
        needs.namespaces = {name: policy for name, policy in needs.namespaces.items() if policy != METRICS_POLICY}
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
        case "ConfigMap":
            _of_variables(needs, document.get("data") or {})
        case "Deployment":
            needs.servers.setdefault("lakegate-to-postgres", "every service")
        case "NetworkPolicy":
            needs.policies = True
            _of_policy(needs, document["metadata"]["name"], spec)


def _of_variables(needs: Needs, data: dict[str, str]) -> None:
    for name, value in data.items():
        if name.endswith("_KAFKA__BOOTSTRAP"):
            needs.servers["lakegate-to-kafka"] = f"{name}={value}"
        elif name.endswith("_TRACE__ENDPOINT"):
            needs.servers["lakegate-to-traces"] = f"{name}={value}"
        elif name == "CATALOG_WAREHOUSE__LOCATION" and not value.startswith("file:"):
            needs.servers["lakegate-to-object-store"] = f"{name}={value}"


def _of_policy(needs: Needs, name: str, spec: Document) -> None:
    if name == DNS_POLICY:
        needs.dns_ports = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    if name in (CLIENTS_POLICY, METRICS_POLICY):
        for rule in spec["ingress"]:
            for peer in rule.get("from") or []:
                wanted = (peer.get("namespaceSelector") or {}).get("matchLabels") or {}
                if _NAMESPACE_NAME in wanted:
                    needs.namespaces[wanted[_NAMESPACE_NAME]] = name
    if name in API_POLICIES:
        # the driver's other rules are for our own pods
        needs.api_server += [
            rule for rule in spec["egress"] if not any(_is_ours(peer) for peer in rule.get("to") or [])
        ]


def _is_ours(peer: Document) -> bool:
    selector = peer.get("podSelector") or {}
    return PART_OF in json.dumps(selector)


def _pods(document: Document) -> Iterator[Document]:
    match document["kind"]:
        case "Pod":
            yield document["spec"]
        case "Deployment" | "StatefulSet" | "Job":
            yield document["spec"]["template"]["spec"]
        case "CronJob":
            yield document["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def _of_pulls(needs: Needs, document: Document) -> None:
    for pull in document.get("imagePullSecrets") or []:
        needs.secrets.setdefault(pull["name"], set()).add(".dockerconfigjson")


def _of_pod(needs: Needs, pod: Document) -> None:
    if pod.get("priorityClassName"):
        needs.priorities.add(pod["priorityClassName"])
    _of_pulls(needs, pod)
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
