"""Numbers that others have set since, which charts ask of the API server as they are rendered for an upgrade."""

from __future__ import annotations

from charts_rendering import Live, Rendered, deployment
from kube.api_server import ApiServer

GREEN = {"meta.helm.sh/release-name": "lakegate-green"}


def replicas(rendered: Rendered, component: str) -> tuple[int | None, str | None]:
    """Of the Deployment, and what it is noted to want."""
    found = rendered.one("Deployment", component=component)
    return found["spec"].get("replicas"), (found["metadata"].get("annotations") or {}).get("lakegate.io/replicas")


def test_a_colour_that_a_rollout_has_at_zero_stays_there_until_the_next_brings_it_up(
    live: Live, server: ApiServer
) -> None:
    """The field is the rollout's by then: to helm 4, which applies server-side, another number would be refused."""

    def upgraded(*sets: str) -> Rendered:
        return live("green", name="lakegate-green", sets=sets)

    assert replicas(upgraded("gateway.replicas=3"), "gateway") == (3, "3")
    server.put("deployments", deployment("lakegate-green-gateway", 0, "green", **GREEN))
    server.put("deployments", deployment("lakegate-green-ingest", 2, "green", **GREEN))
    rendered = upgraded("gateway.replicas=3", "ingest.replicas=4")
    assert replicas(rendered, "gateway") == (0, "3")
    # one that runs is as large as its values say
    assert replicas(rendered, "ingest") == (4, "4")
    # an autoscaler has a minimum of its own
    assert replicas(upgraded("gateway.autoscaling.enabled=true"), "gateway") == (0, None)


def test_a_plain_installation_that_somebody_scaled_to_zero_gets_its_pods_again(live: Live, server: ApiServer) -> None:
    server.put("deployments", deployment("lakegate-gateway", 0))
    assert replicas(live(), "gateway") == (1, None)
