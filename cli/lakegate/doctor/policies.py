"""NetworkPolicies against the cluster: what pods need and would be kept from, and what is open without need."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from lakegate.doctor.findings import Finding, failed, fine, unknown, warning
from lakegate.doctor.needs import CLIENTS_POLICY, Needs
from lakegate.doctor.served import listed
from lakegate.rollout.api import Api, Document, segment
from lakegate.rollout.errors import Forbidden, NotFound

_AREA = "policies"
_DENY = "lakegate-default-deny"
_POLICIES = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies/{}"
_API_SERVER = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
# as base.networkPolicies calls what these policies lead to
_VALUES = {
    "lakegate-to-kafka": "kafka",
    "lakegate-to-object-store": "objectStore",
    "lakegate-to-postgres": "postgres",
    "lakegate-to-traces": "traces",
}


def servers(api: Api, namespace: str, needs: Needs) -> Iterator[Finding]:
    """For a release of a colour: its policies are the base's, which was installed with values of its own."""
    if needs.policies or not needs.servers:
        return
    try:
        if not _is_there(api, namespace, _DENY):
            return
        lacking = [policy for policy in sorted(needs.servers) if not _is_there(api, namespace, policy)]
    except Forbidden:
        yield unknown(_AREA, "your role may not look at NetworkPolicies", "See `kubectl get networkpolicies`.")
        return
    for policy in lacking:
        yield failed(
            _AREA,
            f"{_DENY} is in force, and no {policy} lets pods through ({needs.servers[policy]})",
            f"Set base.networkPolicies.{_VALUES[policy]}.to, and upgrade the base release first.",
        )
    if not lacking:
        yield fine(_AREA, f"the base lets pods reach all {len(needs.servers)} data servers that the values name")


def peers(api: Api, needs: Needs) -> Iterator[Finding]:
    for name, policy in sorted(needs.namespaces.items()):
        try:
            api.call("GET", f"/api/v1/namespaces/{segment(name)}")
        except Forbidden:
            continue
        except NotFound:
            found = f"{policy} lets the namespace {name} in, which isn't there"
            if policy == CLIENTS_POLICY:
                remedy = "Set base.networkPolicies.gatewayFrom to your ingress controller's: no client gets in."
                yield failed(_AREA, found, remedy)
            else:
                yield warning(_AREA, found, "Set base.networkPolicies.monitoringFrom to where Prometheus runs.")


def api_server(api: Api, needs: Needs) -> Iterator[Finding]:
    """What the driver of a rollout and ingest's load jobs need: its addresses, and as few others as possible."""
    if not needs.api_server:
        return
    wrong = sorted(cidr for cidr in _addresses(needs) if not _is_network(cidr))
    if wrong:
        yield failed(
            _AREA,
            f"{', '.join(wrong)} is no range of addresses: the cluster would refuse the policy",
            "Correct base.rollout.apiServer.to, as [{ipBlock: {cidr: 10.0.0.1/32}}].",
        )
        return
    query = {"labelSelector": "kubernetes.io/service-name=kubernetes"}
    try:
        slices = listed(api, _API_SERVER, query)
    except Forbidden:
        yield unknown(
            _AREA,
            "your role may not see the API server's addresses",
            "See that base.rollout.apiServer has those of `kubectl get endpointslices -n default`.",
        )
        return
    addresses = sorted({found for item in slices for at in item.get("endpoints") or [] for found in at["addresses"]})
    ports = sorted({port["port"] for item in slices for port in item.get("ports") or [] if port.get("port")})
    narrow = ", ".join(f"{{ipBlock: {{cidr: {found}/{ip_address(found).max_prefixlen}}}}}" for found in addresses)
    exactly = f"base.rollout.apiServer={{to: [{narrow}], ports: [{', '.join(map(str, ports))}]}}"
    if any(not _reaches(rule, address, port) for rule in needs.api_server for address in addresses for port in ports):
        yield failed(
            _AREA, "the policies keep pods from the API server: rollouts and load jobs would fail", f"Set {exactly}."
        )
    elif any(_network(peer["ipBlock"]["cidr"]).prefixlen == 0 for peer in _blocks(needs)):
        yield warning(
            _AREA,
            "what talks to the API server may talk to every address at its ports",
            f"Set {exactly}; add the Service's address where your network plugin judges before it is translated.",
        )
    elif addresses:
        yield fine(_AREA, "the API server is reached, and not every address")


def _reaches(rule: Document, address: str, port: int) -> bool:
    """Peers that are no addresses can't be judged from here."""
    if port not in [item["port"] for item in rule.get("ports") or []]:
        return False
    found = ip_address(address)
    return any(
        "ipBlock" not in peer
        or (
            found in _network(peer["ipBlock"]["cidr"])
            and not any(found in _network(excepted) for excepted in peer["ipBlock"].get("except") or [])
        )
        for peer in rule.get("to") or []
    )


def _blocks(needs: Needs) -> Iterator[Document]:
    for rule in needs.api_server:
        yield from (peer for peer in rule.get("to") or [] if "ipBlock" in peer)


def _addresses(needs: Needs) -> set[str]:
    return {
        cidr for peer in _blocks(needs) for cidr in (peer["ipBlock"]["cidr"], *(peer["ipBlock"].get("except") or []))
    }


def _network(cidr: str) -> IPv4Network | IPv6Network:
    # the API server takes bits of the host, and looks at those of the network
    return ip_network(cidr, strict=False)


def _is_network(cidr: str) -> bool:
    try:
        _network(cidr)
    except ValueError:
        return False
    return True


def _is_there(api: Api, namespace: str, policy: str) -> bool:
    try:
        api.call("GET", _POLICIES.format(segment(namespace), segment(policy)))
    except NotFound:
        return False
    return True
