"""What the manifests say to each other: addresses, flows, hooks, colours."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from charts_rendering import KAFKA, LOAD_JOBS, SERVICES, UMBRELLA, Document, Render, Rendered, data, pod_labels, pod_of

from lakegate.doctor.needs import needs_of
from lakegate.rollout.cluster import Names
from lakegate.rollout.errors import NotPossible
from lakegate.rollout.job import ROLLOUT_KEY_SECRET, JobOptions, job, job_options
from lakegate.rollout.objects import active
from lakegate.rollout.states import Rollout

# "One way in, one direction of flow" of the architecture, with the ports.
FLOWS = {
    ("gateway", "catalog", "http"),
    ("gateway", "ingest", "http"),
    ("gateway", "lineage", "http"),
    ("ingest", "catalog", "http"),
    ("ingest", "gateway", "management"),
    ("stream-worker", "catalog", "http"),
    ("stream-worker", "gateway", "management"),
    ("smoke", "gateway", "http"),
    ("sweep", "catalog", "http"),
    ("sweep", "gateway", "management"),
}
WORKER = {("worker", "catalog", "http"), ("worker", "gateway", "management")}
# what drives a rollout, in a blue/green installation: it also tells each service whose turn it is
TOLD = (*SERVICES, "stream-worker")
ROLLOUT = {("rollout", component, "management") for component in TOLD} | {("rollout", "gateway", "http")}
DATA_SERVERS = {
    "postgres": {*TOLD, "migrate", "sweep", "worker"},
    "kafka": {"catalog", "ingest", "stream-worker", "lineage"},
    "mongodb": {"catalog"},
    "object-store": {"catalog", "ingest", "stream-worker", "sweep", "worker"},
    "traces": {*TOLD, "sweep", "worker"},
}
COMPONENT = "app.kubernetes.io/component"
SOMEWHERE = '[{"ipBlock":{"cidr":"10.0.0.0/8"}}]'


@pytest.mark.parametrize("name", ["lakegate", "lakegate-blue"])
def test_every_address_in_a_configuration_is_a_port_of_a_service_of_the_same_release(render: Render, name: str) -> None:
    release = name.partition("-")[2] or None
    rendered = render("dev", release, name=name)
    known = {
        f"http://{service['metadata']['name']}:{port['port']}"
        for service in rendered.of("Service")
        for port in service["spec"]["ports"]
    }
    urls = [
        value.removesuffix("/internal/token")
        for service in SERVICES
        for variable, value in data(rendered, f"{name}-{service}").items()
        if variable.endswith("_URL") and "ISSUER" not in variable
    ]
    assert len(urls) == 5
    assert set(urls) <= known


def test_the_base_stands_before_the_services_and_survives_them(render: Render) -> None:
    base, blue = render("prod", "base"), render("prod", "blue", name="lakegate-blue")
    assert not base.of("Deployment")
    kinds = {document["kind"] for document in blue}
    assert kinds.isdisjoint({"Ingress", "HTTPRoute", "NetworkPolicy", "PriorityClass", "ResourceQuota"})
    for workload in blue.of("Deployment"):
        assert pod_labels(workload)["lakegate.io/colour"] == "blue"


def test_no_template_touches_the_selector_that_a_rollout_switches(render: Render) -> None:
    assert "selector" not in render("prod", "base").named("Service", "lakegate")["spec"]


def test_the_active_service_tells_a_rollout_with_what_its_job_is_made(render: Render) -> None:
    base = render("prod", "base", sets=("global.image.tag=v7",))
    notes = base.named("Service", "lakegate")["metadata"]["annotations"]
    assert notes["lakegate.io/rollout-image"] == "localhost/lakegate-rollout:v7"
    account = notes["lakegate.io/rollout-service-account"]
    assert base.named("RoleBinding", "lakegate-rollout")["subjects"][0]["name"] == account
    assert base.named("ServiceAccount", account)
    assert needs_of(base, "lakegate").secrets[notes["lakegate.io/rollout-key-secret"]] == {"key"}
    # a gateway of either colour makes the key that the driver reads with, out of the Secret that the driver gets
    for release in ("blue", "green"):
        gateway = render("prod", release).one("Deployment", component="gateway")
        variables = {v["name"]: v.get("valueFrom") for v in pod_of(gateway)["containers"][0]["env"]}
        made = variables["GATEWAY_BOOTSTRAP__READER_KEY"]["secretKeyRef"]
        assert (made["name"], made["key"]) == (notes["lakegate.io/rollout-key-secret"], "key")
        assert made["name"] != variables["GATEWAY_BOOTSTRAP__KEY"]["secretKeyRef"]["name"]


def test_a_private_registry_is_entered_by_every_pod_and_by_the_driver(render: Render) -> None:
    sets = ('global.image.pullSecrets=["regcred"]', *LOAD_JOBS)
    base, blue = render("prod", "base", sets=sets), render("prod", "blue", name="lakegate-blue", sets=sets)
    secrets = [{"name": "regcred"}]
    pods = [pod_of(workload) for workload in (*base.workloads, *blue.workloads)]
    pods += [pod_of(json.loads(config["data"]["job.json"])["manifest"]) for config in blue.load_jobs]
    assert all(pod["imagePullSecrets"] == secrets for pod in pods)
    # the driver's Job names none: they come with its account
    assert base.named("ServiceAccount", "lakegate-rollout")["imagePullSecrets"] == secrets
    assert needs_of(base.of("ServiceAccount"), "lakegate").secrets == {"regcred": {".dockerconfigjson"}}
    assert "imagePullSecrets" not in render("prod", "base").named("ServiceAccount", "lakegate-rollout")


POOL = {"nodeSelector": {"pool": "lake"}, "tolerations": [{"key": "lake", "operator": "Exists"}]}


def placed(pod: Document) -> Document:
    return {name: pod[name] for name in ("nodeSelector", "tolerations", "priorityClassName") if name in pod}


def test_a_node_pool_of_ones_own_is_every_pods_and_the_drivers(render: Render) -> None:
    sets = (*(f"global.{name}={json.dumps(value)}" for name, value in POOL.items()), "global.priorityClassName=lake")
    # as long as no service has a class of its own
    plain = render("dev", sets=(*sets, *LOAD_JOBS, KAFKA, *(f"{name}.sweep.enabled=true" for name in SERVICES)))
    pods = {w["metadata"]["name"]: pod_of(w) for w in plain.workloads}
    pods["load"] = pod_of(json.loads(plain.load_jobs[0]["data"]["job.json"])["manifest"])
    assert {"lakegate-provision", "lakegate-lineage-migrate", "lakegate-smoke-test"} <= pods.keys()
    lake = POOL | {"priorityClassName": "lake"}
    assert {name: placed(pod) for name, pod in pods.items()} == dict.fromkeys(pods, lake)
    service = render("prod", "base", sets=sets).named("Service", "lakegate")
    options = job_options(active(service | {"metadata": service["metadata"] | {"resourceVersion": "1"}}), None)
    now = datetime.now(UTC)
    rollout = Rollout(id="1", from_colour="blue", to_colour="green", started_at=now, phase_at=now)
    assert placed(pod_of(job(Names("lakegate", "lakegate"), rollout, options))) == lake


def test_a_placement_that_nobody_understands_is_told_before_a_rollout_begins() -> None:
    notes = {"lakegate.io/rollout-image": "i", "lakegate.io/rollout-key-secret": "k"}
    metadata = {"name": "lakegate", "resourceVersion": "1"}
    for wrong in ("pool", '{"nodeName":"one"}'):
        noted = metadata | {"annotations": notes | {"lakegate.io/rollout-placement": wrong}}
        with pytest.raises(NotPossible, match="Upgrade the base release"):
            job_options(active({"metadata": noted, "spec": {}}), None)


def test_a_service_may_run_elsewhere_and_its_migration_with_it(render: Render) -> None:
    sets = ('global.nodeSelector={"pool":"lake"}', 'catalog.nodeSelector={"pool":"fast"}')
    rendered = render("prod", sets=sets)
    at = {w["metadata"]["name"]: pod_of(w)["nodeSelector"]["pool"] for w in rendered.workloads}
    fast = {"lakegate-catalog", "lakegate-catalog-migrate", "lakegate-catalog-sweep"}
    assert {name for name, pool in at.items() if pool == "fast"} == fast
    # a class that this very release makes is not there yet when the hooks run
    hooks = [w for w in rendered.workloads if "helm.sh/hook" in w["metadata"].get("annotations", {})]
    assert len(hooks) == 6
    assert not any("priorityClassName" in pod_of(hook) for hook in hooks)
    assert pod_of(rendered.one("Deployment", component="catalog"))["priorityClassName"] == "lakegate-work"


def test_what_scrapes_the_driver_finds_the_job_that_a_rollout_makes(render: Render) -> None:
    now = datetime.now(UTC)
    rollout = Rollout(id="1", from_colour="blue", to_colour="green", started_at=now, phase_at=now)
    made = job(Names("lakegate", "lakegate"), rollout, JobOptions("image", "lakegate-rollout", "lakegate-reader-key"))
    base = render("prod", "base")
    monitor = base.named("PodMonitor", "lakegate-rollout")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= pod_labels(made).items()
    ports = {port["name"] for port in pod_of(made)["containers"][0]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports
    policy = base.named("NetworkPolicy", "lakegate-rollout")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod_labels(made).items()


def test_in_a_single_release_the_active_service_is_the_gateway(render: Render) -> None:
    rendered = render()
    selector = rendered.named("Service", "lakegate")["spec"]["selector"]
    pods = [w for w in rendered.workloads if selector.items() <= pod_labels(w).items()]
    assert [pod["metadata"]["name"] for pod in pods] == ["lakegate-gateway"]


def test_the_consumers_of_a_colour_look_whose_turn_it_is(render: Render) -> None:
    base, green = render("prod", "base"), render("prod", "green", name="lakegate-green")
    turn = base.named("ConfigMap", "lakegate-consumers")
    # the decision is the rollout's: an upgrade of the base must not take it back
    assert "data" not in turn
    for service in SERVICES[1:]:
        variables = data(green, f"lakegate-green-{service}")
        assert variables[f"{service.upper()}_CONSUMERS__COLOUR"] == "green"
        pod = pod_of(green.one("Deployment", component=service))
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "turn"]
        assert volume["configMap"]["name"] == turn["metadata"]["name"]
        (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "turn"]
        assert variables[f"{service.upper()}_CONSUMERS__FILE"] == f"{mount['mountPath']}/consumers"
        (key,) = [volume for volume in pod["volumes"] if volume["name"] == "rollout-key"]
        (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "rollout-key"]
        assert key["secret"]["secretName"] == ROLLOUT_KEY_SECRET
        assert variables[f"{service.upper()}_CONSUMERS__KEY_FILE"] == f"{mount['mountPath']}/key"
    assert not any("CONSUMERS" in name for name in data(render(), "lakegate-lineage"))


def test_only_the_gateway_is_behind_the_ingress_and_the_route(render: Render) -> None:
    rendered = render(sets=("base.httpRoute.enabled=true", 'base.httpRoute.parentRefs=[{"name":"local"}]'))
    (rule,) = rendered.one("Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "lakegate", "port": {"name": "http"}}
    (route,) = rendered.one("HTTPRoute")["spec"]["rules"]
    assert route["backendRefs"] == [{"name": "lakegate", "port": 80}]
    # a stream of events has no end by itself
    assert route["timeouts"] == {"request": "0s", "backendRequest": "0s"}


def components(selector: Document) -> set[str]:
    if COMPONENT in selector.get("matchLabels", {}):
        return {selector["matchLabels"][COMPONENT]}
    return {
        value
        for expression in selector.get("matchExpressions", [])
        if expression["key"] == COMPONENT
        for value in expression["values"]
    }


def policies(rendered: Rendered) -> list[Any]:
    return [policy["spec"] for policy in rendered.of("NetworkPolicy")]


@pytest.mark.parametrize("mode", ["single", "blueGreen"])
def test_the_policies_open_exactly_the_flows_of_the_architecture(render: Render, mode: str) -> None:
    rendered = render("prod", "base" if mode == "blueGreen" else None)
    opened: dict[str, set[tuple[str, str, str]]] = {"Ingress": set(), "Egress": set()}
    for policy in policies(rendered):
        for own in components(policy["podSelector"]):
            for kind, side in (("Ingress", "from"), ("Egress", "to")):
                for rule in policy.get(kind.lower(), []):
                    for peer in rule.get(side, []):
                        for other in components(peer.get("podSelector", {})):
                            for port in rule["ports"]:
                                flow = (other, own) if kind == "Ingress" else (own, other)
                                opened[kind].add((*flow, port["port"]))
    # a gateway's own port is opened for the rollout by its number
    opened["Ingress"] = {(a, b, port) for a, b, port in opened["Ingress"] if port != 8080}
    expected = FLOWS if mode == "single" else FLOWS | ROLLOUT
    assert opened["Egress"] == expected
    assert opened["Ingress"] == expected - {("rollout", "gateway", "http")}


def test_a_colour_reaches_its_own_colour_only(render: Render) -> None:
    for policy in policies(render("prod", "base")):
        own = policy["podSelector"].get("matchLabels", {}).get("lakegate.io/colour")
        for rule in [*policy.get("ingress", []), *policy.get("egress", [])]:
            for peer in [*rule.get("from", []), *rule.get("to", [])]:
                other = peer.get("podSelector", {}).get("matchLabels", {}).get("lakegate.io/colour")
                assert other == own


def test_what_is_not_opened_is_closed_for_every_pod(render: Render) -> None:
    rendered = render("dev")
    denied = rendered.named("NetworkPolicy", "lakegate-default-deny")["spec"]
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in denied
    assert "egress" not in denied
    for workload in rendered.workloads:
        assert denied["podSelector"]["matchLabels"].items() <= pod_labels(workload).items()


def test_each_data_server_is_open_to_those_who_use_it(render: Render) -> None:
    values = ("postgres", "kafka", "mongodb", "objectStore", "traces")
    rendered = render("dev", sets=tuple(f"base.networkPolicies.{name}.to={SOMEWHERE}" for name in values))
    for server, users in DATA_SERVERS.items():
        policy = rendered.named("NetworkPolicy", f"lakegate-to-{server}")["spec"]
        assert components(policy["podSelector"]) == users
        assert "ingress" not in policy


def test_the_database_is_made_before_it_is_migrated_and_that_before_anything_changes(render: Render) -> None:
    jobs = render().of("Job")
    weights = {job["metadata"]["name"]: int(job["metadata"]["annotations"]["helm.sh/hook-weight"]) for job in jobs}
    assert weights.pop("lakegate-provision") < min(weights.values())
    assert set(weights) == {f"lakegate-{service}-migrate" for service in SERVICES}
    for hook in jobs:
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert "before-hook-creation" in annotations["helm.sh/hook-delete-policy"]
        # what a hook names must be there before the first install
        assert pod_of(hook)["serviceAccountName"] == "default"
        assert hook["spec"]["backoffLimit"] > 0


def test_each_service_migrates_its_own_schema_with_its_own_image(render: Render) -> None:
    rendered = render(sets=("global.image.tag=v7",))
    for service in SERVICES:
        (container,) = pod_of(rendered.named("Job", f"lakegate-{service}-migrate"))["containers"]
        assert container["args"] == ["lakegate_chassis.migrate", "lakegate_chassis", f"lakegate_{service}"]
        assert container["image"] == f"localhost/lakegate-{service}:v7"


def test_a_changed_setting_rolls_the_pods_of_its_service_and_no_others(render: Render) -> None:
    before, after = render(), render(sets=("gateway.settings.log_level=debug",))
    changed = {
        service
        for service in SERVICES
        if before.one("Deployment", component=service)["spec"]["template"]
        != after.one("Deployment", component=service)["spec"]["template"]
    }
    assert changed == {"gateway"}


def test_catalog_and_ingest_look_at_the_same_warehouse(render: Render) -> None:
    rendered = render("dev")
    folder = data(rendered, "lakegate-catalog")["CATALOG_WAREHOUSE__LOCATION"]
    assert data(rendered, "lakegate-ingest")["INGEST_QUARANTINE__LOCATION"] == folder
    claim = rendered.one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for service in ("catalog", "ingest"):
        pod = pod_of(rendered.one("Deployment", component=service))
        volume = next(v for v in pod["volumes"] if v["name"] == "warehouse")
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "warehouse")
        assert f"file://{mount['mountPath']}" == folder
    for service in ("gateway", "lineage"):
        pod = pod_of(rendered.one("Deployment", component=service))
        assert not any(volume["name"] == "warehouse" for volume in pod["volumes"])


def test_an_object_store_needs_no_volume(render: Render) -> None:
    rendered = render("prod")
    assert not rendered.of("PersistentVolumeClaim")
    assert data(rendered, "lakegate-catalog")["CATALOG_WAREHOUSE__LOCATION"].startswith("s3://")


def test_the_spool_is_a_volume_of_the_pod_and_its_quota_fits_in_it(render: Render) -> None:
    for kind, source in (("emptyDir", "emptyDir"), ("volume", "ephemeral")):
        rendered = render("dev", sets=(f"ingest.spool.kind={kind}", "ingest.spool.gib=5"))
        quota = int(data(rendered, "lakegate-ingest")["INGEST_SPOOL__QUOTA_BYTES"])
        assert 4 * 2**30 < quota < 5 * 2**30
        pod = pod_of(rendered.one("Deployment", component="ingest"))
        assert source in next(volume for volume in pod["volumes"] if volume["name"] == "spool")


def test_the_quota_of_prod_has_room_for_both_colours_at_full_size(render: Render) -> None:
    colours = [render("prod", colour, sets=("global.kafka.bootstrap=k:9092",)) for colour in ("blue", "green")]
    hard = render("prod", "base").one("ResourceQuota")["spec"]["hard"]
    for kind in ("requests", "limits"):
        for resource, amount in (("cpu", cores), ("memory", mebibytes)):
            needed = sum(
                scaler["spec"]["maxReplicas"] * amount(container["resources"][kind][resource])
                for rendered in colours
                for scaler in rendered.of("HorizontalPodAutoscaler")
                for container in pod_of(rendered.named("Deployment", scaler["spec"]["scaleTargetRef"]["name"]))[
                    "containers"
                ]
            )
            assert 0 < needed < amount(hard[f"{kind}.{resource}"]), (kind, resource, needed)


def cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def mebibytes(quantity: str) -> float:
    return float(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def test_the_autoscaler_goes_out_fast_and_in_slowly(render: Render) -> None:
    rendered = render("prod")
    for service in SERVICES:
        spec = rendered.one("HorizontalPodAutoscaler", component=service)["spec"]
        assert spec["scaleTargetRef"]["name"] == rendered.one("Deployment", component=service)["metadata"]["name"]
        assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
        assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 120
        # or each upgrade would put the number back
        assert "replicas" not in rendered.one("Deployment", component=service)["spec"]


def test_an_autoscaler_uses_metrics_of_the_service_where_an_adapter_serves_them(render: Render) -> None:
    def metrics(**options: Any) -> list[str]:
        rendered = render("prod", **options)
        autoscaler = rendered.one("HorizontalPodAutoscaler", component="gateway")
        return [metric["type"] for metric in autoscaler["spec"]["metrics"]]

    assert metrics() == ["Resource"]
    assert metrics(apis=("custom.metrics.k8s.io/v1beta1",)) == ["Resource", "Pods"]
    never = ("gateway.autoscaling.customMetrics=never",)
    assert metrics(apis=("custom.metrics.k8s.io/v1beta1",), sets=never) == ["Resource"]


def test_keda_scales_on_the_lag_of_the_group_that_the_service_consumes_as(render: Render) -> None:
    rendered = render("dev", sets=("lineage.keda.enabled=true", KAFKA))
    (trigger,) = rendered.one("ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["consumerGroup"] == "lineage"
    assert trigger["metadata"]["topic"] == "lakegate.lineage"
    assert trigger["metadata"]["bootstrapServers"] == "kafka:9092"


def test_prometheus_scrapes_each_service_at_its_management_port(render: Render) -> None:
    rendered = render("prod")
    for service in SERVICES:
        monitor = rendered.one("ServiceMonitor", component=service)["spec"]
        labels = rendered.named("Service", f"lakegate-{service}")["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["management"]


def test_every_file_of_rules_and_dashboards_gets_into_the_cluster(render: Render) -> None:
    rendered = render("prod")
    folder = UMBRELLA.parent / "lakegate-base" / "files"
    rules = {file.stem: yaml.safe_load(file.read_text()) for file in (folder / "rules").glob("*.yaml")}
    for name, content in rules.items():
        spec = rendered.named("PrometheusRule", f"lakegate-{name.replace('_', '-')}")["spec"]
        assert spec["groups"] == content["groups"]
    dashboards = [file.name for file in (folder / "dashboards").glob("*.json")]
    for name in dashboards:
        stem = name.removesuffix(".json").replace("_", "-")
        assert name in data(rendered, f"lakegate-dashboard-{stem}")
    assert len(rendered.of("PrometheusRule")) == len(rules)


def test_alerts_link_to_where_the_runbooks_can_be_read(render: Render) -> None:
    def links(**options: Any) -> set[str]:
        return {
            rule["annotations"]["runbook_url"]
            for document in render("prod", **options).of("PrometheusRule")
            for group in document["spec"]["groups"]
            for rule in group["rules"]
            if "alert" in rule
        }

    pages = {path.name for path in (UMBRELLA.parents[1] / "docs" / "runbooks").glob("Lakegate*.md")}
    assert links() == {f"docs/runbooks/{page}" for page in pages}
    for url in ("https://git.example.com/docs/runbooks", "https://git.example.com/docs/runbooks/"):
        told = links(sets=(f"base.rules.runbookUrl={url}",))
        assert told == {f"https://git.example.com/docs/runbooks/{page}" for page in pages}


def test_helm_test_runs_the_main_job_at_the_gateway_of_its_own_release(render: Render) -> None:
    for name, release in (("lakegate", None), ("lakegate-green", "green")):
        rendered = render("dev", release, name=name)
        pod = rendered.one("Pod")
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        environment = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}
        assert environment["LAKEGATE_URL"] == f"http://{name}-gateway:8080"
        script = data(rendered, f"{name}-smoke-test")["main_job.py"]
        assert script == (UMBRELLA / "files" / "main_job.py").read_text()
        compile(script, "main_job.py", "exec")
    assert not render("dev", "base").of("Pod")


def test_signing_keys_reach_the_gateway_as_a_folder_and_the_services_know_the_public_half_alone(
    render: Render,
) -> None:
    """A key that is added to the Secret is in the folder without a restart: not so with `items` or a subPath."""
    rendered = render("prod")

    def mounted(service: str) -> tuple[dict[str, Any], dict[str, Any], str]:
        pod = pod_of(rendered.one("Deployment", component=service))
        (volume,) = [v for v in pod["volumes"] if v.get("secret", {}).get("secretName") == "lakegate-signing-keys"]
        (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == volume["name"]]
        assert mount["readOnly"] is True
        assert "subPath" not in mount
        variable = "TOKEN__PRIVATE_KEY" if service == "gateway" else "TOKEN__JWKS"
        (value,) = [e["value"] for e in pod["containers"][0]["env"] if e["name"] == f"{service.upper()}_{variable}"]
        return volume["secret"], mount, value

    secret, mount, value = mounted("gateway")
    assert "items" not in secret
    assert value == mount["mountPath"]
    for service in SERVICES[1:]:
        secret, mount, value = mounted(service)
        assert [item["path"] for item in secret["items"]] == ["internal.jwks.json"]
        assert value == f"{mount['mountPath']}/internal.jwks.json"


def test_the_policies_let_workers_do_what_ingest_does_and_ingest_make_jobs(render: Render) -> None:
    rendered = render("prod", sets=LOAD_JOBS)
    egress = {
        (own, other, port["port"])
        for policy in policies(rendered)
        for own in components(policy["podSelector"])
        for rule in policy.get("egress", [])
        for peer in rule["to"]
        for other in components(peer.get("podSelector", {}))
        for port in rule["ports"]
    }
    assert {flow for flow in egress if flow[0] == "worker"} == WORKER
    api = rendered.named("NetworkPolicy", "lakegate-ingest-calls-api-server")["spec"]
    assert components(api["podSelector"]) == {"ingest"}
    assert {port["port"] for port in api["egress"][0]["ports"]} == {443, 6443}
