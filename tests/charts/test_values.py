"""Values: what is refused, with which words, and what becomes of those that are taken."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import pytest
import yaml
from charts_rendering import CHARTS, ENVIRONMENTS, KAFKA, SERVICES, Refused, Render, pod_of
from pydantic_settings import BaseSettings

from lakegate_catalog.settings import CatalogSettings
from lakegate_gateway.settings import GatewaySettings
from lakegate_ingest.settings import IngestSettings
from lakegate_lineage.settings import LineageSettings

SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "catalog": CatalogSettings,
    "ingest": IngestSettings,
    "lineage": LineageSettings,
}


def test_the_schemas_are_what_the_settings_classes_say() -> None:
    spec = importlib.util.spec_from_file_location("charts_generate", CHARTS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, content in module.generated().items():
        assert path.read_text() == content, "run: make schemas"


@pytest.mark.parametrize("chart", ["lakegate", "lakegate-base", *SERVICES])
def test_every_value_of_values_yaml_is_in_the_schema_and_nothing_else_is_allowed(chart: str) -> None:
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    assert schema["additionalProperties"] is False
    assert "global" in schema["properties"]
    assert set(values) <= set(schema["properties"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("gatway.replicas=2", "additional properties 'gatway' not allowed"),
        ("gateway.replica=2", "additional properties 'replica' not allowed"),
        ("gateway.replicas=two", "got string, want integer"),
        ("gateway.settings.limits.load_byte=1", "additional properties 'load_byte' not allowed"),
        ("gateway.settings.limits.load_bytes=0", "minimum: got 0, want 1"),
        ("ingest.settings.job.workers=17", "maximum: got 17, want 16"),
        ("gateway.settings.log_level=loud", "value must be one of 'debug', 'info', 'warning', 'error'"),
        ("catalog.settings.postgres.url=postgresql://a", "additional properties 'url' not allowed"),
        ('gateway.secretSettings.token={"name":"a","key":"b"}', "additional properties 'token' not allowed"),
        ("global.publicURL=https://a", "additional properties 'publicURL' not allowed"),
        ("global.publicUrl=lake.example.com", "does not match pattern"),
        ("lineage.resources.limits.memory=1G", "does not match pattern"),
        ("base.mode=bluegreen", "value must be one of 'single', 'blueGreen'"),
        ("base.rules.runbookUrl=docs/runbooks", "does not match pattern"),
        ("base.activeService=lake.gate", "does not match pattern"),
        ("base.ingress.host=https://lake.example.com", "does not match pattern"),
        ('base.httpRoute.hostnames=["lake.*.com"]', "does not match pattern"),
        # null takes a default away
        ("gateway.replicas=null", "missing property 'replicas'"),
        ("catalog.secretSettings=null", "missing property 'secretSettings'"),
        ("gateway.secretFolders=null", "missing property 'secretFolders'"),
        ("lineage.secretFiles=null", "missing property 'secretFiles'"),
        ("catalog.disruption=null", "missing property 'disruption'"),
        ("ingest.streamWorker.drain.seconds=null", "missing property 'seconds'"),
        ("base.networkPolicies.dns=null", "missing property 'dns'"),
    ],
)
def test_a_value_that_is_no_value_of_ours_is_refused(render: Render, value: str, said: str) -> None:
    with pytest.raises(Refused, match="don't meet the specifications") as refused:
        render(sets=(value,))
    assert said in str(refused.value)


# a worker whose engine alone takes all that it has
SMALL = {
    "fromGib": 0,
    "engineMib": 768,
    "threads": 1,
    "resources": {"requests": {"cpu": "1", "memory": "768Mi"}, "limits": {"cpu": "1", "memory": "768Mi"}},
}


@pytest.mark.parametrize(
    ("environment", "values", "said"),
    [
        ("dev", ("global.publicUrl=",), "name the address that clients use"),
        ("dev", ("global.warehouse.location=",), "name where tables are kept"),
        ("dev", ("global.warehouse.claim=",), "which catalog and ingest share: name its volume"),
        ("dev", ("global.warehouse.location=file://warehouse",), "a folder is written with three slashes"),
        ("dev", ("global.warehouse.location=s3://lake/tables",), "which needs no volume"),
        ("dev", ("gateway.autoscaling.enabled=true", "gateway.keda.enabled=true"), "each would undo"),
        ("dev", ("lineage.keda.enabled=true",), "global.kafka.bootstrap names no broker"),
        ("dev", ("gateway.resources=null",), "gateway.resources.requests.cpu is not set"),
        ("dev", ("ingest.resources=null",), "ingest.resources.requests.cpu is not set"),
        ("dev", ("catalog.sweep.resources=null",), "catalog.sweep.resources.requests.cpu is not set"),
        ("dev", ("lineage.migration.resources=null",), "lineage.migration.resources.requests.cpu is not set"),
        ("dev", (KAFKA, "ingest.streamWorker.resources=null"), "streamWorker.resources.requests.cpu is not set"),
        ("dev", ("base.provision.resources=null",), "base.provision.resources.requests.cpu is not set"),
        ("dev", ("smokeTest.resources=null",), "smokeTest.resources.requests.cpu is not set"),
        ("dev", ("gateway.resources.requests.cpu=2500m",), "is 2500m, which is more than limits.cpu (2)"),
        ("dev", ("gateway.resources.requests.memory=1Gi",), "is 1Gi, which is more than limits.memory (384Mi)"),
        ("dev", ('lineage.podLabels={"app.kubernetes.io/component":"catalog"}',), "which is the charts' own"),
        ("dev", ('lineage.podAnnotations={"checksum/configuration":"1"}',), "which is the charts' own"),
        ("dev", ('global.monitoring.labels={"lakegate.io/colour":"blue"}',), "which is the charts' own"),
        ("dev", ("gateway.disruption.maxUnavailable=0",), "a node drain would wait for ever"),
        ("dev", ("gateway.disruption.maxUnavailable=0%",), "a node drain would wait for ever"),
        ("dev", ("global.image.tag=latest",), "there would be nothing to roll back to"),
        ("dev", ("smokeTest.image.tag=latest",), "the image lakegate-gateway has the tag latest"),
        ("dev", ("gateway.keda.enabled=true", "global.kafka.bootstrap=kafka:9092"), "consumes no topic"),
        ("dev", ("gateway.drain.graceSeconds=30",), "a pod may need 43 s to end"),
        ("dev", ("ingest.settings.job.workers=4",), "loads would be killed"),
        ("dev", ("ingest.resources.limits.memory=256Mi",), "loads would be killed"),
        ("dev", ("global.loadJobs.enabled=true", "ingest.loadJobs.sizes=[]"), "loadJobs.sizes is empty"),
        ("dev", ("global.loadJobs.enabled=true", f"ingest.loadJobs.sizes=[{json.dumps(SMALL)}]"), "would be killed"),
        ("dev", ("gateway.autoscaling.minReplicas=9", "gateway.autoscaling.enabled=true"), "is more than maxReplicas"),
        ("dev", ("global.colour=blue",), "the base belongs to no colour"),
        ("dev", ("base.httpRoute.enabled=true",), "name the Gateway that serves it"),
        ("dev", ("base.quota.enabled=true",), "say how much"),
        ("prod", ("global.priorityClassName=lakegate-work",), "Make the class beforehand"),
        ("prod", ("ingest.development.sync=true",), "that is for development"),
        ("prod", ("catalog.autoscaling.minReplicas=1",), "stops at every node drain"),
        ("prod", ("base.ingress.tls.secretName=",), "travel in the clear"),
        ("prod", ("base.warehouseVolume.create=true",), "is no folder"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(
    render: Render, environment: str, values: tuple[str, ...], said: str
) -> None:
    with pytest.raises(Refused) as refused:
        render(environment, sets=values)
    assert said in str(refused.value)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("service", SERVICES)
def test_the_service_reads_exactly_what_the_chart_gives_it(
    render: Render, environment: str, service: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variables of its ConfigMap, its Secrets and its files, the settings class is content."""
    rendered = render(environment)
    file = tmp_path / "file"
    file.write_text("{}")
    for name, value in rendered.named("ConfigMap", f"lakegate-{service}")["data"].items():
        monkeypatch.setenv(name, value)
    container = rendered.one("Deployment", component=service)["spec"]["template"]["spec"]["containers"][0]
    samples = {
        "POSTGRES__URL": "postgresql://a:b@c/d",
        "BOOTSTRAP__KEY": "lgk_" + "x" * 40,
        "BOOTSTRAP__READER_KEY": "lgk_" + "y" * 40,
        "FILES__KEY": "x" * 40,
    }
    for variable in container["env"]:
        is_file = variable.get("value", "").startswith("/etc/lakegate/")
        value = str(file) if is_file else samples[variable["name"].partition("_")[2]]
        monkeypatch.setenv(variable["name"], value)
    settings = SETTINGS[service]()
    assert settings.model_dump()["host"] == "0.0.0.0"


def test_settings_keep_their_exact_values_on_the_way_to_the_variable(render: Render) -> None:
    sets = (
        "gateway.settings.limits.load_bytes=107374182400",
        "gateway.settings.limits.discard_seconds=0.5",
        "catalog.settings.metadata.cache_bytes=48000000",
        'global.warehouse.clientProperties={"s3.endpoint":"http://s3:7070"}',
    )
    rendered = render(sets=sets)
    gateway = rendered.named("ConfigMap", "lakegate-gateway")["data"]
    catalog = rendered.named("ConfigMap", "lakegate-catalog")["data"]
    assert gateway["GATEWAY_LIMITS__LOAD_BYTES"] == "107374182400"
    assert gateway["GATEWAY_LIMITS__DISCARD_SECONDS"] == "0.5"
    assert catalog["CATALOG_METADATA__CACHE_BYTES"] == "48000000"
    assert json.loads(catalog["CATALOG_WAREHOUSE__CLIENT_PROPERTIES"]) == {"s3.endpoint": "http://s3:7070"}


def test_a_request_as_large_as_its_limit_and_half_a_core_are_taken(render: Render) -> None:
    same = '{"requests":{"cpu":0.5,"memory":"1Gi"},"limits":{"cpu":"500m","memory":"1024Mi"}}'
    container = render(sets=(f"gateway.resources={same}",)).one("Deployment", component="gateway")
    assert container["spec"]["template"]["spec"]["containers"][0]["resources"] == json.loads(same)


def test_labels_of_ones_own_are_taken_and_a_digest_is_no_tag(render: Render) -> None:
    digest = f"sha256:{'0' * 64}"
    sets = (
        'gateway.podLabels={"example.com/team":"lake"}',
        "gateway.image.tag=latest",
        f"gateway.image.digest={digest}",
    )
    sets += ("gateway.disruption.maxUnavailable=10%", "gateway.migration.enabled=false")
    rendered = render(sets=sets)
    template = rendered.one("Deployment", component="gateway")["spec"]["template"]
    assert template["metadata"]["labels"]["example.com/team"] == "lake"
    assert template["spec"]["containers"][0]["image"] == f"localhost/lakegate-gateway@{digest}"


@pytest.mark.parametrize("tag", ["_rc1", f"{'a' * 62}-1", f"{'a' * 61}._-b"])
def test_a_tag_of_any_legal_form_is_a_legal_label(render: Render, tag: str) -> None:
    rendered = render(sets=(f"global.image.tag={tag}", "global.image.registry=registry.example.com/lake/"))
    for document in rendered:
        labels = document["metadata"].get("labels") or {}
        assert re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", labels["app.kubernetes.io/version"])
    image = pod_of(rendered.one("Deployment", component="catalog"))["containers"][0]["image"]
    assert image == f"registry.example.com/lake/lakegate-catalog:{tag}"


def test_a_host_of_many_names_is_a_host(render: Render) -> None:
    spec = render(
        sets=("base.ingress.host=*.example.com", "base.ingress.tls.secretName=wild"),
    ).one("Ingress")["spec"]
    assert (spec["rules"][0]["host"], spec["tls"][0]["hosts"]) == ("*.example.com", ["*.example.com"])


def test_an_optional_secret_may_be_taken_away(render: Render) -> None:
    catalog = render(sets=(r"catalog.secretSettings.files\.key=null",)).one("Deployment", component="catalog")
    assert "CATALOG_FILES__KEY" not in {v["name"] for v in pod_of(catalog)["containers"][0]["env"]}


def test_kafka_is_told_to_the_services_with_consumers_and_its_login_comes_from_a_secret(render: Render) -> None:
    secret = '{"name":"kafka","key":"password"}'
    login = tuple(f"{service}.secretSettings.kafka\\.password={secret}" for service in SERVICES[1:])
    rendered = render(sets=(KAFKA, "global.kafka.replication=3", *login))
    for service in SERVICES[1:]:
        data = rendered.named("ConfigMap", f"lakegate-{service}")["data"]
        assert data[f"{service.upper()}_KAFKA__BOOTSTRAP"] == "kafka:9092"
        assert data[f"{service.upper()}_KAFKA__REPLICATION"] == "3"
        container = rendered.one("Deployment", component=service)["spec"]["template"]["spec"]["containers"][0]
        password = next(item for item in container["env"] if item["name"] == f"{service.upper()}_KAFKA__PASSWORD")
        assert password["valueFrom"]["secretKeyRef"] == {"name": "kafka", "key": "password"}
    assert not any("KAFKA" in name for name in rendered.named("ConfigMap", "lakegate-gateway")["data"])
