"""The contract of the cluster port, over HTTP: on a small API server, and on a real one where KUBECONFIG names it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from kube.api_server import ApiServer, DirectApi, listening
from kubernetes.client import ApiClient, Configuration

from lakegate.rollout.api import Api, HttpApi, connect
from lakegate.rollout.cluster import Names
from lakegate.rollout.errors import ApiAway, Conflict, NotFound, Refused
from lakegate.rollout.job import JobOptions, job
from lakegate.rollout.kubernetes import KubernetesCluster
from lakegate.rollout.objects import Unreadable
from lakegate.rollout.states import HistoryEntry, Options, Phase, Rollout
from lakegate.rollout.world import Route

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLLOUT = Rollout(id="one", from_colour="blue", to_colour="green", started_at=NOW, phase_at=NOW)
SUITE = {"app.kubernetes.io/part-of": "lakegate"}
GREEN = {**SUITE, "lakegate.io/colour": "green", "app.kubernetes.io/component": "gateway"}
PATHS = {
    "services": "/api/v1/namespaces/{}/services",
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "pods": "/api/v1/namespaces/{}/pods",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "horizontalpodautoscalers": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "endpointslices": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "events": "/api/v1/namespaces/{}/events",
    "jobs": "/apis/batch/v1/namespaces/{}/jobs",
    "httproutes": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
}
KINDS = {
    "services": ("v1", "Service"),
    "configmaps": ("v1", "ConfigMap"),
    "deployments": ("apps/v1", "Deployment"),
    "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "httproutes": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
}


@dataclass
class Server:
    """An API server with a namespace of this test's own."""

    api: Api
    namespace: str

    def create(self, kind: str, name: str, *, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        version, title = KINDS[kind]
        body = {"apiVersion": version, "kind": title, "metadata": {"name": name, "labels": labels or SUITE}, **fields}
        return self.api.call("POST", self.path(kind), body=body)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.api.call("GET", f"{self.path(kind)}/{name}")

    def items(self, kind: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api.call("GET", self.path(kind))["items"]
        return items

    def path(self, kind: str) -> str:
        return PATHS[kind].format(self.namespace)

    def touch(self, kind: str, name: str) -> None:
        """Somebody else changes the object."""
        value = {"touched": secrets.token_hex(4)}
        body = [{"op": "add", "path": "/metadata/annotations", "value": value}]
        self.api.call("PATCH", f"{self.path(kind)}/{name}", body=body, patch=True)


def small() -> Iterator[Server]:
    with listening(ApiServer()) as url:
        yield Server(HttpApi(ApiClient(Configuration(host=url))), "test")


def real() -> Iterator[Server]:
    if "KUBECONFIG" not in os.environ:
        pytest.skip("KUBECONFIG names no cluster")
    api = connect()
    namespace = f"rollout-test-{secrets.token_hex(4)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    api.call("POST", "/api/v1/namespaces", body=body)
    yield Server(api, namespace)
    api.call("DELETE", f"/api/v1/namespaces/{namespace}")


@pytest.fixture(params=[small, real], ids=["small", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    make: Callable[[], Iterator[Server]] = request.param
    yield from make()


@pytest.fixture
def cluster(server: Server) -> KubernetesCluster:
    """With the active Service as the chart makes it: no selector, no annotations."""
    server.create("services", "lakegate", spec={"ports": [{"name": "http", "port": 80, "targetPort": 8080}]})
    return KubernetesCluster(server.api, Names(server.namespace))


def deploy(server: Server, replicas: int = 2) -> None:
    template = {
        "metadata": {"labels": GREEN},
        "spec": {"containers": [{"name": "main", "image": "localhost/no-such-image:1"}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": GREEN}, "template": template}
    server.create("deployments", "lakegate-green-gateway", labels=GREEN, spec=spec)


def test_a_service_without_a_selector_serves_no_colour(cluster: KubernetesCluster) -> None:
    active = cluster.active()
    assert (active.colour, active.rollout, active.history) == (None, None, ())


def test_a_service_that_is_not_there_is_said_so(server: Server) -> None:
    with pytest.raises(NotFound, match="lakegate"):
        KubernetesCluster(server.api, Names(server.namespace)).active()


def test_a_rollout_is_remembered_on_the_service(cluster: KubernetesCluster) -> None:
    cluster.remember(cluster.active(), ROLLOUT)
    active = cluster.active()
    assert active.rollout == ROLLOUT
    assert active.colour is None


def test_the_switch_and_its_record_are_one_write(cluster: KubernetesCluster) -> None:
    switched = ROLLOUT.into(Phase.CONFIRMING, NOW)
    cluster.remember(cluster.active(), switched, select="green")
    active = cluster.active()
    assert (active.colour, active.rollout) == ("green", switched)


def test_a_write_on_an_outdated_look_is_refused(cluster: KubernetesCluster) -> None:
    seen = cluster.active()
    cluster.remember(seen, ROLLOUT)
    with pytest.raises(Conflict):
        cluster.remember(seen, ROLLOUT.into(Phase.CONFIRMING, NOW), select="green")
    assert cluster.active().colour is None


def test_a_change_by_anybody_makes_the_look_outdated(cluster: KubernetesCluster, server: Server) -> None:
    seen = cluster.active()
    server.touch("services", "lakegate")
    with pytest.raises(Conflict):
        cluster.remember(seen, ROLLOUT)


def test_a_selector_that_is_not_as_it_was_seen_is_not_switched(cluster: KubernetesCluster) -> None:
    cluster.remember(cluster.active(), ROLLOUT, select="blue")
    with pytest.raises(Conflict):
        cluster.remember(replace(cluster.active(), colour="green"), ROLLOUT, select="blue")


def test_the_history_keeps_its_last_entries(cluster: KubernetesCluster) -> None:
    over = ROLLOUT.into(Phase.PROMOTED, NOW)
    entries = tuple(HistoryEntry.of(over.model_copy(update={"id": str(number)})) for number in range(30))
    cluster.remember(cluster.active(), over, history=entries)
    assert [entry.id for entry in cluster.active().history] == [str(number) for number in range(10, 30)]


def test_an_annotation_that_nobody_of_ours_wrote_is_not_guessed_at(cluster: KubernetesCluster, server: Server) -> None:
    body = [{"op": "add", "path": "/metadata/annotations", "value": {"lakegate.io/rollout": "{}"}}]
    server.api.call("PATCH", f"{server.path('services')}/lakegate", body=body, patch=True)
    with pytest.raises(Unreadable):
        cluster.active()


def test_deployments_are_scaled_down_to_nothing_and_up_again(cluster: KubernetesCluster, server: Server) -> None:
    deploy(server)
    for replicas in (0, 3):
        for _ in range(20):
            # its controller writes to it, too
            [seen] = cluster.look().workloads
            try:
                cluster.scale(seen, replicas)
            except Conflict:
                continue
            break
        [scaled] = cluster.look().workloads
        assert (scaled.replicas, scaled.colour, scaled.component) == (replicas, "green", "gateway")


def test_scaling_on_an_outdated_look_is_refused(cluster: KubernetesCluster, server: Server) -> None:
    deploy(server)
    [seen] = cluster.look().workloads
    server.touch("deployments", "lakegate-green-gateway")
    with pytest.raises(Conflict):
        cluster.scale(seen, 0)


def test_an_autoscaler_is_held_and_given_its_own_minimum_back(cluster: KubernetesCluster, server: Server) -> None:
    deploy(server)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "lakegate-green-gateway"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}
    server.create("horizontalpodautoscalers", "lakegate-green-gateway", labels=GREEN, spec=spec)

    def write(change: Callable[[Any], None]) -> Any:
        for _ in range(20):
            try:
                change(cluster.look().autoscalers[0])
            except Conflict:
                continue
            return cluster.look().autoscalers[0]
        raise AssertionError("conflicts without end")

    held = write(lambda seen: cluster.hold(seen, 4))
    held = write(lambda seen: cluster.hold(seen, 5))
    assert (held.minimum, held.maximum, held.restore, held.role) == (5, 9, 2, "lakegate-gateway")
    released = write(lambda seen: cluster.release(seen, keep=False))
    assert (released.minimum, released.restore) == (2, None)
    # what applies the chart with another minimum would be refused that
    assert released.ours
    disowned = write(cluster.disown)
    assert (disowned.minimum, disowned.ours) == (2, False)


def test_whose_turn_it_is_gets_a_higher_generation_each_time(cluster: KubernetesCluster, server: Server) -> None:
    server.create("configmaps", "lakegate-consumers")
    first = cluster.look().wanted
    assert first is not None
    assert (first.colour, first.generation) == (None, 0)
    cluster.want(first, "green")
    second = cluster.look().wanted
    assert second is not None
    assert (second.colour, second.generation) == ("green", 1)
    with pytest.raises(Conflict):
        cluster.want(first, "blue")
    cluster.want(second, None)
    third = cluster.look().wanted
    assert third is not None
    assert (third.colour, third.generation) == (None, 2)


def test_without_the_config_map_nothing_is_known_of_consumers(cluster: KubernetesCluster) -> None:
    assert cluster.look().wanted is None


def test_endpoints_are_those_of_each_service(cluster: KubernetesCluster, server: Server) -> None:
    def slice_of(service: str, name: str, ready: bool) -> None:
        target = {"kind": "Pod", "name": f"{service}-pod", "namespace": server.namespace}
        endpoint = {"addresses": ["10.9.8.7"], "conditions": {"ready": ready}, "targetRef": target}
        labels = {"kubernetes.io/service-name": service}
        server.create("endpointslices", name, labels=labels, addressType="IPv4", endpoints=[endpoint], ports=[])

    slice_of("lakegate", "one", True)
    slice_of("lakegate-green-gateway", "two", True)
    slice_of("lakegate-blue-gateway", "three", False)
    slice_of("another", "four", True)
    world = cluster.look()
    assert world.serving == {"lakegate-pod"}
    assert world.previews == {"blue": frozenset(), "green": {"lakegate-green-gateway-pod"}}


def test_a_lease_is_taken_renewed_and_let_go(cluster: KubernetesCluster) -> None:
    assert cluster.holder() is None
    taken = cluster.take_lease(None, "first", 15)
    with pytest.raises(Conflict):
        cluster.take_lease(None, "second", 15)
    renewed = cluster.take_lease(taken, "first", 15)
    with pytest.raises(Conflict):
        cluster.take_lease(taken, "second", 15)
    assert cluster.holder() == renewed
    free = cluster.take_lease(renewed, "", 15)
    assert free.identity == ""
    assert cluster.take_lease(free, "second", 15).identity == "second"


def test_the_address_of_a_service_is_its_ip_and_its_http_port(cluster: KubernetesCluster, server: Server) -> None:
    spec = {"ports": [{"name": "other", "port": 9080}, {"name": "http", "port": 8080}], "clusterIP": "None"}
    server.create("services", "headless", spec=spec)
    assert cluster.address("headless") == "http://None:8080"


def test_an_event_is_told_on_the_service(cluster: KubernetesCluster, server: Server) -> None:
    cluster.tell("RolloutReverting", "back to blue", warning=True)
    [event] = [event for event in server.items("events") if event["reason"] == "RolloutReverting"]
    assert (event["type"], event["message"], event["involvedObject"]["name"]) == ("Warning", "back to blue", "lakegate")


def test_the_job_is_one_that_the_api_server_takes(cluster: KubernetesCluster, server: Server) -> None:
    cluster.start_job(job(cluster.names, ROLLOUT, JobOptions("localhost/no-such-image:1", "lakegate-rollout", "key")))
    [made] = server.items("jobs")
    pod = made["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["resources"]["limits"].keys() == {"cpu", "memory"}
    assert made["spec"]["ttlSecondsAfterFinished"] > 0
    assert pod["containers"][0]["args"][-1] == "one"


def test_a_server_that_does_not_answer_is_away() -> None:
    with listening(ApiServer()) as url:
        pass
    cluster = KubernetesCluster(HttpApi(ApiClient(Configuration(host=url, retries=False))), Names("test"))
    with pytest.raises(ApiAway):
        cluster.active()


def test_half_of_what_is_there_is_nothing_to_decide_on() -> None:
    server = ApiServer()
    server.put("services", {"metadata": {"name": "lakegate"}, "spec": {}})
    for number in range(501):
        server.put("pods", {"metadata": {"name": f"pod-{number}", "labels": GREEN}, "spec": {"containers": []}})
    with pytest.raises(Refused, match="more than 500"):
        KubernetesCluster(DirectApi(server), Names("test")).look()


def test_a_share_of_the_route_is_given_and_taken_and_leaves_no_trace(
    cluster: KubernetesCluster, server: Server
) -> None:
    rules = [
        {"backendRefs": [{"name": "lakegate", "port": 80}]},
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/other"}}],
            "backendRefs": [{"name": "other", "port": 80}],
        },
    ]
    try:
        before = server.create("httproutes", "lakegate", spec={"rules": rules})["spec"]
    except NotFound:
        pytest.skip("this cluster has no Gateway API")
    server.create("services", "lakegate-green-gateway", spec={"ports": [{"name": "http", "port": 8080}]})
    options = Options(canary=(20,), route="lakegate")
    cluster.remember(cluster.active(), ROLLOUT.model_copy(update={"options": options}))

    def seen() -> Route:
        route = cluster.look().route
        assert route is not None
        return route

    assert (seen().share, seen().rules) == (None, (0,))
    for share in (0, 20):
        outdated = seen()
        cluster.weigh(seen(), share)
        assert seen().share == share
        refs = server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
        found = {(ref["name"], ref["port"]): ref["weight"] for ref in refs}
        assert found == {("lakegate", 80): 100 - share, ("lakegate-green-gateway", 8080): share}
        with pytest.raises(Conflict):
            cluster.weigh(outdated, 50)
    cluster.weigh(seen(), None)
    after = server.get("httproutes", "lakegate")
    assert after["spec"] == before
    # what applies the chart again would be refused rules that are somebody else's
    assert seen().ours
    cluster.disown(seen())
    assert not seen().ours
    assert server.get("httproutes", "lakegate")["spec"] == before


def test_weights_of_both_colours_previews_are_taken_away_and_ways_past_the_service_are_seen(
    cluster: KubernetesCluster, server: Server
) -> None:
    def refs(**weights: int) -> list[dict[str, Any]]:
        return [{"name": name.replace("_", "-"), "port": 80, "weight": weight} for name, weight in weights.items()]

    ours = refs(lakegate=50, lakegate_green_gateway=20, lakegate_blue_gateway=30)
    try:
        server.create("httproutes", "lakegate", spec={"rules": [{"backendRefs": ours}]})
    except NotFound:
        pytest.skip("this cluster has no Gateway API")
    server.create("httproutes", "direct", spec={"rules": [{"backendRefs": refs(lakegate=1, lakegate_blue_gateway=1)}]})
    for colour in ("blue", "green"):
        server.create("services", f"lakegate-{colour}-gateway", spec={"ports": [{"name": "http", "port": 8080}]})
    cluster.remember(cluster.active(), ROLLOUT)

    def seen() -> Route:
        route = cluster.look().route
        assert route is not None
        return route

    assert (seen().share, seen().stray) == (20, 30)
    assert cluster.look().past == {"lakegate-blue-gateway": "direct"}
    cluster.weigh(seen(), 0)
    assert (seen().share, seen().stray) == (0, 0)
    cluster.weigh(seen(), None)
    assert (seen().share, seen().stray) == (None, None)
    after = server.get("httproutes", "lakegate")["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in after] == ["lakegate"]
