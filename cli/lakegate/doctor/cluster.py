"""The cluster itself, whatever is to be installed: version, nodes, namespace, names, network policies."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lakegate.doctor.findings import Finding, failed, fine, unknown, warning
from lakegate.doctor.needs import Needs
from lakegate.doctor.served import listed
from lakegate.rollout.api import Api, Document, segment
from lakegate.rollout.errors import Forbidden, NotFound

# as kubeVersion of the charts says
OLDEST = (1, 30)
_MOST_ITEMS = "500"
_NUMBERS = re.compile(r"v?(\d+)\.(\d+)")
_SYSTEM = "kube-system"

# DaemonSets of network plugins that enforce NetworkPolicies, by the start of their names
_ENFORCERS = {
    "antrea-agent": "Antrea",
    "anetd": "GKE Dataplane V2",
    "azure-npm": "Azure NPM",
    "calico-node": "Calico",
    "canal": "Canal",
    "cilium": "Cilium",
    "kindnet": "kindnet (from kind 0.24 on)",
    "kube-router": "kube-router",
    "ovnkube-node": "OVN-Kubernetes",
    "weave-net": "Weave Net",
}


def numbers(version: str) -> tuple[int, int] | None:
    match = _NUMBERS.match(version)
    return (int(match[1]), int(match[2])) if match else None


def versions(api: Api) -> Iterator[Finding]:
    area, oldest = "kubernetes", ".".join(map(str, OLDEST))
    text = str(api.call("GET", "/version").get("gitVersion", ""))
    found = numbers(text)
    if found is None:
        yield unknown(area, f"the server calls its version {text!r}", f"See that it is {oldest} or newer.")
    elif found < OLDEST:
        yield failed(area, f"server {text}", f"The charts need {oldest} or newer: upgrade the cluster.")
    else:
        yield fine(area, f"server {text}")


def nodes(api: Api) -> Iterator[Finding]:
    oldest = ".".join(map(str, OLDEST))
    try:
        items = listed(api, "/api/v1/nodes", {"limit": _MOST_ITEMS})
    except Forbidden:
        yield unknown("nodes", "your role may not list nodes", "See with `kubectl get nodes` that one is Ready.")
        return
    ready = [node for node in items if _is_ready(node) and not node.get("spec", {}).get("unschedulable")]
    if not ready:
        yield failed(
            "nodes", f"none of {len(items)} is ready and schedulable", "See `kubectl describe nodes`; uncordon one."
        )
        return
    yield fine("nodes", f"{len(ready)} of {len(items)} ready and schedulable")
    old = sorted(node["metadata"]["name"] for node in ready if (numbers(_kubelet(node)) or OLDEST) < OLDEST)
    if old:
        yield failed(
            "nodes",
            f"kubelet older than {oldest} on {', '.join(old[:5])}",
            "Upgrade: preStop.sleep needs that version.",
        )


def namespace(api: Api, name: str) -> Iterator[Finding]:
    try:
        found = api.call("GET", f"/api/v1/namespaces/{segment(name)}")
    except NotFound:
        yield failed("namespace", f"{name} isn't there", f"kubectl create namespace {name}: the Secrets go into it.")
        return
    except Forbidden:
        yield unknown("namespace", f"your role may not look at {name}", f"See that the namespace {name} exists.")
        return
    if (found.get("status") or {}).get("phase") == "Terminating":
        yield failed("namespace", f"{name} is being deleted", "Wait until it is gone, and make it again.")
        return
    level = (found["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce")
    yield fine("namespace", f"{name}, pod security {level or 'not enforced'}")


def names(api: Api, needs: Needs | None) -> Iterator[Finding]:
    """The DNS server as far as it is seen from outside: its endpoints, and whether our policies let pods reach them."""
    area = "dns"
    path = f"/apis/discovery.k8s.io/v1/namespaces/{_SYSTEM}/endpointslices"
    query = {"labelSelector": "kubernetes.io/service-name=kube-dns", "limit": _MOST_ITEMS}
    try:
        slices = listed(api, path, query)
    except Forbidden:
        yield unknown(
            area, f"your role may not list endpointslices in {_SYSTEM}", "See `kubectl -n kube-system get endpoints`."
        )
        return
    if not slices:
        yield unknown(
            area,
            f"no Service kube-dns in {_SYSTEM}: names are served from elsewhere",
            "Set base.networkPolicies.dns to that server's pods and ports, or pods can't resolve names.",
        )
        return
    ready = [
        endpoint
        for item in slices
        for endpoint in item.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready", True) is not False
    ]
    if not ready:
        yield failed(
            area, "no endpoint of kube-dns is ready", "See `kubectl -n kube-system get pods -l k8s-app=kube-dns`."
        )
        return
    listens = [port for item in slices for port in item.get("ports") or [] if port.get("name") != "metrics"]
    # without a number: any
    ports = {port["port"] for port in listens if port.get("port")}
    if needs is not None and needs.dns_ports is not None and not ports <= needs.dns_ports:
        missing = ", ".join(map(str, sorted(ports - needs.dns_ports)))
        yield failed(
            area,
            f"the DNS server listens at {missing}, which the NetworkPolicy lakegate-dns does not open",
            f"Add {missing} to base.networkPolicies.dns.ports.",
        )
        return
    yield fine(area, f"{len(ready)} ready endpoint{'s' if len(ready) > 1 else ''} of kube-dns")


def policies(api: Api, needs: Needs | None) -> Iterator[Finding]:
    """Whether somebody enforces NetworkPolicies: the API takes them in any cluster, so this is a hint."""
    if needs is not None and not needs.policies:
        return
    area = "policies"
    try:
        sets = listed(api, "/apis/apps/v1/daemonsets", {"limit": _MOST_ITEMS})
    except Forbidden:
        yield unknown(
            area, "your role may not list DaemonSets", "Ask who runs the cluster whether NetworkPolicies are enforced."
        )
        return
    found = sorted({title for item in sets for start, title in _ENFORCERS.items() if _name(item).startswith(start)})
    if found:
        yield fine(area, f"enforced by {', '.join(found)}")
    elif any(_name(item).startswith("aws-node") for item in sets):
        yield warning(area, "the Amazon VPC CNI", "It enforces policies only with enableNetworkPolicy=true: see that.")
    elif _is_k3s(api):
        yield fine(area, "enforced by k3s itself, unless it was started with --disable-network-policy")
    else:
        yield warning(
            area,
            "no network plugin that is known to enforce NetworkPolicies",
            "Try it: a pod without our labels must not reach a service of ours. Else any pod of the cluster can.",
        )


def _is_k3s(api: Api) -> bool:
    return "+k3s" in str(api.call("GET", "/version").get("gitVersion", ""))


def _is_ready(node: Document) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _kubelet(node: Document) -> str:
    return str(((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", ""))


def _name(document: Document) -> str:
    return str(document["metadata"]["name"])
