"""The worker that commits event streams: where it runs, as what, and when it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from charts_rendering import ENVIRONMENTS, KAFKA, Refused, Render, Rendered, pod_labels, pod_of

from lakegate_ingest.settings import IngestSettings

NAME = "lakegate-stream-worker"


def data(rendered: Rendered, name: str) -> dict[str, str]:
    found: dict[str, str] = rendered.named("ConfigMap", name)["data"]
    return found


def test_without_kafka_there_is_no_worker_and_nothing_of_it(render: Render) -> None:
    for environment in ENVIRONMENTS:
        rendered = render(environment)
        assert not [d["kind"] for d in rendered if d["metadata"]["name"] == NAME]
        assert "INGEST_STREAMS__WORKER" not in data(rendered, "lakegate-ingest")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_with_kafka_the_worker_commits_and_the_api_leaves_it_alone(render: Render, environment: str) -> None:
    rendered = render(environment, sets=(KAFKA,))
    (container,) = pod_of(rendered.named("Deployment", NAME))["containers"]
    (api,) = pod_of(rendered.named("Deployment", "lakegate-ingest"))["containers"]
    assert container["image"] == api["image"]
    assert container["args"] == ["lakegate_ingest.streams"]
    assert data(rendered, "lakegate-ingest")["INGEST_STREAMS__WORKER"] == "false"
    assert data(rendered, NAME)["INGEST_KAFKA__BOOTSTRAP"] == "kafka:9092"
    # nobody sends it requests
    assert not [service for service in rendered.of("Service") if service["metadata"]["name"] == NAME]


def test_it_runs_with_the_settings_of_ingest_and_its_own_on_top(
    render: Render, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    sets = (
        KAFKA,
        "ingest.settings.log_level=debug",
        "ingest.settings.streams.commit_seconds=2.5",
        "ingest.settings.engine.memory_bytes=268435456",
        "ingest.streamWorker.settings.streams.commit_seconds=7",
    )
    rendered = render("dev", sets=sets)
    assert data(rendered, "lakegate-ingest")["INGEST_STREAMS__COMMIT_SECONDS"] == "2.5"
    (tmp_path / "jwks").write_text("{}")
    monkeypatch.setenv("INGEST_POSTGRES__URL", "postgresql://a:b@c/d")
    monkeypatch.setenv("INGEST_TOKEN__JWKS", str(tmp_path / "jwks"))
    for name, value in data(rendered, NAME).items():
        monkeypatch.setenv(name, value)
    settings = IngestSettings()
    assert (settings.log_level, settings.streams.commit_seconds) == ("debug", 7)
    # what a load may take is no concern of the worker's
    assert settings.engine.memory_bytes == 180 * 2**20
    pod = pod_of(rendered.named("Deployment", NAME))
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["scratch"] == str(settings.spool.dir)
    assert settings.quarantine.location == f"file://{mounts['warehouse']}"
    assert {item["name"] for item in pod["containers"][0]["env"]} >= {"INGEST_POSTGRES__URL", "INGEST_TOKEN__JWKS"}


def test_it_is_told_whose_turn_it_is(render: Render) -> None:
    green = render("prod", "green", name="lakegate-green", sets=(KAFKA,))
    worker = green.named("Deployment", "lakegate-green-stream-worker")
    assert pod_labels(worker)["lakegate.io/colour"] == "green"
    variables = data(green, "lakegate-green-stream-worker")
    assert variables["INGEST_CONSUMERS__COLOUR"] == "green"
    assert variables["INGEST_CATALOG_URL"] == "http://lakegate-green-catalog:8081"
    pod = pod_of(worker)
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "turn"]
    assert variables["INGEST_CONSUMERS__FILE"] == f"{mount['mountPath']}/consumers"
    # where the driver of a rollout tells it
    assert {"name": "management", "containerPort": 9082} in pod["containers"][0]["ports"]


def test_it_scales_by_cpu_or_by_the_lag_of_all_that_its_group_reads(render: Render) -> None:
    cpu = render("prod", sets=(KAFKA,)).one("HorizontalPodAutoscaler", component="stream-worker")["spec"]
    assert cpu["scaleTargetRef"]["name"] == NAME
    assert cpu["minReplicas"] == 2
    assert [metric["type"] for metric in cpu["metrics"]] == ["Resource"]

    sets = (KAFKA, "ingest.settings.streams.group=rows", "ingest.streamWorker.keda.enabled=true")
    rendered = render("dev", sets=sets)
    lag = rendered.one("ScaledObject")["spec"]
    assert lag["scaleTargetRef"]["name"] == NAME
    (trigger,) = lag["triggers"]
    assert trigger["metadata"]["consumerGroup"] == data(rendered, NAME)["INGEST_STREAMS__GROUP"] == "rows"
    assert "topic" not in trigger["metadata"]
    assert "replicas" not in rendered.named("Deployment", NAME)["spec"]


def test_a_drain_takes_one_of_them_at_a_time_and_prometheus_finds_each(render: Render) -> None:
    rendered = render("prod", sets=(KAFKA,))
    labels = pod_labels(rendered.named("Deployment", NAME))
    assert rendered.named("PodDisruptionBudget", NAME)["spec"]["maxUnavailable"] == 1
    monitor = rendered.one("PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == ["management"]
    assert monitor["jobLabel"] in labels


@pytest.mark.parametrize(
    ("environment", "release", "sets", "said"),
    [
        ("dev", None, ("ingest.streamWorker.run=always",), "event streams need Kafka"),
        (
            "dev",
            None,
            (KAFKA, "ingest.streamWorker.run=never", "ingest.settings.streams.worker=false"),
            "get into no table",
        ),
        ("dev", None, (KAFKA, "ingest.streamWorker.run=never"), "the streams that it commits"),
        ("dev", None, (KAFKA, "ingest.streamWorker.resources.limits.memory=512Mi"), "it would be killed"),
        ("dev", None, (KAFKA, "ingest.streamWorker.drain.graceSeconds=20"), "ingest.streamWorker: drain.graceSeconds"),
        ("prod", None, (KAFKA, "ingest.streamWorker.autoscaling.minReplicas=1"), "Set ingest.streamWorker.replicas"),
        (
            "prod",
            "blue",
            (KAFKA, "ingest.streamWorker.autoscaling.enabled=false", "ingest.streamWorker.keda.enabled=true",
             "ingest.streamWorker.keda.minReplicas=2"),
            "the colour that a rollout has scaled to zero",
        ),
        ("dev", None, ("ingest.streamWorker.keda.enabled=true", "ingest.streamWorker.run=always"), "need Kafka"),
        ("dev", None, ("ingest.streamWorker.run=sometimes",), "value must be one of 'auto', 'always', 'never'"),
        ("dev", None, ("ingest.streamWorker.keda.topics=[\"a\"]",), "additional properties 'topics' not allowed"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_a_sentence(
    render: Render, environment: str, release: str | None, sets: tuple[str, ...], said: str
) -> None:
    with pytest.raises(Refused) as refused:
        render(environment, release, sets=sets)
    assert said in str(refused.value)


def test_without_a_worker_of_its_own_the_api_commits(render: Render) -> None:
    sets = (KAFKA, "ingest.streamWorker.run=never", "ingest.resources.limits.memory=2Gi")
    rendered = render("dev", sets=sets)
    assert not [d for d in rendered if d["metadata"]["name"] == NAME]
    assert "INGEST_STREAMS__WORKER" not in data(rendered, "lakegate-ingest")
