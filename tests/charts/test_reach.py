"""NetworkPolicies: what the values name can be reached, and nobody is let in or out by an empty list."""

from __future__ import annotations

import json

import pytest
from charts_rendering import ENVIRONMENTS, Refused, Render

SOMEWHERE = json.dumps([{"ipBlock": {"cidr": "10.0.0.0/8"}}])
PODS = json.dumps([{"podSelector": {"matchLabels": {"app": "broker"}}}])
MONGODB = 'catalog.secretSettings={"store.mongodb.url":{"name":"mongodb","key":"url"}}'
# values that lead to a server, the port there, and where its peers are named
LED = [
    ("kafka", "global.kafka.bootstrap=kafka:9092", 9092),
    ("traces", "global.trace.endpoint=http://otel.monitoring:4318/v1/traces", 4318),
    ("mongodb", MONGODB, 27017),
]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(("server", "value", "port"), LED, ids=[server for server, *_ in LED])
def test_a_server_that_the_policies_would_keep_pods_from_is_refused_with_what_to_set(
    render: Render, environment: str, server: str, value: str, port: int
) -> None:
    for release in (None, "base"):
        nowhere = f"base.networkPolicies.{server}.to=[]"
        with pytest.raises(Refused) as refused:
            render(environment, release, sets=(value, nowhere))
        said = str(refused.value)
        assert value.partition("=")[0].partition(".secret")[0] in said
        # an example that can be taken over
        assert f"base.networkPolicies.{server}={{to: [{{ipBlock: {{cidr: 10.0.0.5/32}}}}], ports: [{port}]}}" in said
        rendered = render(environment, release, sets=(value, f"base.networkPolicies.{server}.to={SOMEWHERE}"))
        assert rendered.named("NetworkPolicy", f"lakegate-to-{server}")
    # a colour has no policies, and without any nothing is kept from anywhere
    assert render(environment, "blue", name="lakegate-blue", sets=(value,))
    assert render(environment, sets=(value, nowhere, "base.networkPolicies.enabled=false"))


@pytest.mark.parametrize(
    ("environment", "values", "said"),
    [
        ("prod", ("postgres.to=[]",), "Lakegate keeps its state in PostgreSQL, but"),
        ("dev", ("postgres=null",), "Lakegate keeps its state in PostgreSQL, but"),
        ("prod", ("objectStore.to=[]",), "global.warehouse.location is s3://lakegate-production/warehouse, but"),
        ("prod", ("objectStore.ports=[9000]",), "Add 443 to base.networkPolicies.objectStore.ports"),
        ("dev", ("monitoringFrom=[]",), "which in a NetworkPolicy means everybody"),
        ("dev", ("dns.to=[]",), "which in a NetworkPolicy means everywhere"),
    ],
)
def test_a_policy_without_peers_is_refused_with_a_sentence(
    render: Render, environment: str, values: tuple[str, ...], said: str
) -> None:
    with pytest.raises(Refused) as refused:
        render(environment, sets=tuple(f"base.networkPolicies.{value}" for value in values))
    assert said in str(refused.value)


def test_what_talks_to_the_api_server_does_not_talk_to_everybody_by_an_empty_list(render: Render) -> None:
    nobody = "base.rollout.apiServer.to=[]"
    for release, sets in (("base", ()), (None, ("global.loadJobs.enabled=true",))):
        with pytest.raises(Refused, match="kubectl get endpointslices kubernetes"):
            render("prod", release, sets=(nobody, *sets))
    assert render("prod", sets=(nobody,))


@pytest.mark.parametrize(
    ("bootstrap", "port"),
    [("b1.example:9093", 9093), ("b1.example:9092,b2.example:9094", 9094), ("b1.example", None)],
)
def test_a_port_of_an_address_that_is_not_let_through_is_refused(
    render: Render, bootstrap: str, port: int | None
) -> None:
    values = f'global.kafka={{"bootstrap":"{bootstrap}"}}'
    outside = (values, f"base.networkPolicies.kafka.to={SOMEWHERE}")
    if port is None:
        assert render("prod", sets=outside)
        return
    with pytest.raises(Refused, match=f"Add {port} to base.networkPolicies.kafka.ports"):
        render("prod", sets=outside)
    assert render("prod", sets=(*outside, f"base.networkPolicies.kafka.ports=[9092,{port}]"))
    # a policy sees the port of the pod, which a Service may translate
    assert render("prod", sets=(values, f"base.networkPolicies.kafka.to={PODS}"))


def test_of_the_monitoring_namespace_only_prometheus_reaches_the_private_ports(render: Render) -> None:
    (rule,) = render("prod").named("NetworkPolicy", "lakegate-metrics")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
