"""All checks, in the order in which somebody would mend what they find."""

from __future__ import annotations

from collections.abc import Iterator

from lakegate.doctor import cluster, helm, install, policies, rights
from lakegate.doctor.findings import Finding, failed, fine, unknown
from lakegate.doctor.helm import Chart, HelmFailed
from lakegate.doctor.needs import Needs, needs_of
from lakegate.doctor.served import Served
from lakegate.rollout.api import Api
from lakegate.rollout.errors import ApiError

# charts of apiVersion v2
OLDEST_HELM = (3, 0)


def examine(api: Api, namespace: str, chart: Chart | None) -> Iterator[Finding]:
    """Raises ApiAway, and Forbidden when not even the version may be asked for."""
    served = Served(api)
    yield from cluster.versions(api)
    yield from _told("nodes", cluster.nodes(api))
    needs: Needs | None = None
    for found in _helm():
        yield found
    if chart is None:
        yield unknown(
            "chart", "none was named: Secrets, volumes, kinds and rights were not looked at",
            "lakegate doctor charts/lakegate -f my.yaml",
        )  # fmt: skip
    else:
        found, needs = _chart(api, served, chart)
        yield found
    yield from _told("namespace", cluster.namespace(api, namespace))
    yield from _told("dns", cluster.names(api, needs))
    yield from _told("policies", cluster.policies(api, needs))
    if needs is not None:
        yield from _told("policies", policies.servers(api, namespace, needs))
        yield from _told("policies", policies.peers(api, needs))
        yield from _told("policies", policies.api_server(api, needs))
        yield from _told("kinds", install.kinds(served, needs))
        yield from _told("storage", install.storage(api, namespace, needs))
        yield from _told("ingress", install.classes(api, needs))
        yield from _told("gateway", install.gateways(api, needs))
        yield from _told("secrets", install.secrets(api, namespace, needs))
        yield from _told("rights", rights.rights(api, served, namespace, needs))


def _told(area: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """One question that the API server does not answer leaves the others."""
    try:
        yield from findings
    except ApiError as error:
        yield unknown(area, f"the API server did not say: {error}", "Ask again later, or look at it yourself.")


def _helm() -> Iterator[Finding]:
    oldest = ".".join(map(str, OLDEST_HELM))
    try:
        found = helm.version()
    except HelmFailed as error:
        yield failed("helm", str(error), f"Put helm {oldest} or newer on PATH.")
        return
    if found is None:
        yield failed("helm", "it is not on PATH", f"Install helm {oldest} or newer.")
    elif found[1] < OLDEST_HELM:
        yield failed("helm", found[0], f"The charts need {oldest} or newer.")
    else:
        yield fine("helm", found[0])


def _chart(api: Api, served: Served, chart: Chart) -> tuple[Finding, Needs | None]:
    text = str(api.call("GET", "/version").get("gitVersion", ""))
    # a server that is too old was told of: what the chart would ask of a newer one is still worth knowing
    version = ".".join(map(str, max(cluster.numbers(text) or cluster.OLDEST, cluster.OLDEST)))
    try:
        documents = helm.render(chart, f"{version}.0", served.versions)
    except HelmFailed as error:
        return failed("chart", str(error), "Correct the values."), None
    except FileNotFoundError:
        return failed("chart", "can't be rendered without helm", "Install helm, then ask again."), None
    return fine("chart", f"{chart.path}: {len(documents)} objects"), needs_of(documents, chart.namespace)
