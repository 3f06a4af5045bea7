"""An upgrade of what is installed: the API server refuses some changes, and helm deletes what is not rendered any more.

What releases before this one have rendered is in released.yaml, as far as it may not change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts_rendering import ENVIRONMENTS, SERVICES, Document, Render, Rendered

RELEASED = yaml.safe_load(Path(__file__).with_name("released.yaml").read_text())
# "field is immutable"; what has no entry may change
FIXED = {
    "Deployment": ("spec.selector",),
    "StatefulSet": ("spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates"),
    "DaemonSet": ("spec.selector",),
    "Job": ("spec.selector", "spec.template", "spec.completions", "spec.completionMode"),
    "PersistentVolumeClaim": ("spec.accessModes", "spec.storageClassName", "spec.volumeMode", "spec.volumeName"),
    "Service": ("spec.clusterIP", "spec.ipFamilies"),
    "RoleBinding": ("roleRef",),
    "PriorityClass": ("value", "preemptionPolicy"),
    "ConfigMap": ("immutable",),
    "Secret": ("immutable", "type"),
}
RELEASES = {None: "lakegate", "base": "lakegate", "blue": "lakegate-blue", "green": "lakegate-green"}
# what people change between two revisions of a release
CHANGES = (
    "global.image.registry=registry.example",
    "global.image.tag=v2",
    "global.loadJobs.enabled=true",
    "global.kafka.bootstrap=kafka:9092",
    "global.trace.endpoint=https://otel.example:4318/v1/traces",
    "base.networkPolicies.traces.to=" + json.dumps([{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
    "base.networkPolicies.kafka.to=" + json.dumps([{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
    *(f"{service}.replicas=5" for service in SERVICES),
    *(f"{service}.podLabels.team=lake" for service in SERVICES),
    *(f"{service}.resources.limits.memory=2Gi" for service in SERVICES),
    *(f"{service}.sweep.enabled=true" for service in SERVICES),
)


def is_made_anew(document: Document) -> bool:
    """A hook that helm deletes before it makes it."""
    policy = (document["metadata"].get("annotations") or {}).get("helm.sh/hook-delete-policy", "")
    return "before-hook-creation" in policy


def fixed(rendered: Rendered) -> dict[str, dict[str, Any]]:
    """By kind and name, the fields that may not change; those that are not given are the API server's own."""
    return {
        f"{document['kind']}/{document['metadata']['name']}": {
            path: value for path in FIXED.get(document["kind"], ()) if (value := at(document, path)) is not None
        }
        for document in rendered
        if not is_made_anew(document)
    }


def at(document: Document, path: str) -> Any:
    found: Any = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("release", RELEASES)
def test_nothing_that_people_change_changes_what_is_fixed(
    render: Render, environment: str, release: str | None
) -> None:
    before = fixed(render(environment, release, name=RELEASES[release]))
    after = fixed(render(environment, release, name=RELEASES[release], sets=CHANGES))
    assert before.keys() <= after.keys()
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("version", RELEASED)
@pytest.mark.parametrize("release", RELEASES)
def test_what_an_earlier_release_installed_is_still_there_and_can_be_upgraded(
    render: Render, release: str | None, version: str
) -> None:
    then = RELEASED[version][release or "single"]
    gone = set(then)
    for environment in ENVIRONMENTS:
        now = fixed(render(environment, release, name=RELEASES[release]))
        both = then.keys() & now.keys()
        assert {name: now[name] for name in both} == {name: then[name] for name in both}
        gone -= both
    assert not gone


def test_no_job_of_a_release_is_in_the_way_of_the_next(render: Render) -> None:
    for release, name in RELEASES.items():
        rendered = render("prod", release, name=name, sets=CHANGES)
        assert all(is_made_anew(job) for job in (*rendered.of("Job"), *rendered.of("Pod")))


def test_the_volume_of_the_warehouse_outlives_its_release_and_the_values_that_made_it(render: Render) -> None:
    for release in (None, "base"):
        claim = render("dev", release).one("PersistentVolumeClaim")
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not render("dev", "blue", name="lakegate-blue").of("PersistentVolumeClaim")
