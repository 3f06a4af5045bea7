"""From a plain installation to blue/green and back: no outage by a wrong upgrade, nor by the guide."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from charts_rendering import (
    CHARTS,
    ENVIRONMENTS,
    KAFKA,
    ROOT,
    SERVICES,
    Document,
    Live,
    Refused,
    Render,
    deployment,
)
from kube.api_server import ApiServer

GUIDE = (ROOT / "docs" / "install.md").read_text()
EVERYTHING = (
    KAFKA,
    "global.loadJobs.enabled=true",
    "global.monitoring.enabled=true",
    "ingest.streamWorker.autoscaling.enabled=true",
    *(f"{service}.sweep.enabled=true" for service in SERVICES),
    *(f"{service}.autoscaling.enabled=true" for service in SERVICES),
)


def test_an_upgrade_that_would_delete_a_plain_installation_is_refused(live: Live, server: ApiServer) -> None:
    assert not live("base").of("Deployment")
    server.put("deployments", deployment("lakegate-lineage"))
    with pytest.raises(Refused, match="would delete what serves: the Deployment lakegate-lineage"):
        live("base")
    # its own upgrades go on, and another release's Deployments are not its business
    assert live()
    server.put("deployments", deployment("lakegate-lineage", **{"meta.helm.sh/release-name": "other"}))
    assert live("base")


@pytest.mark.parametrize("there", ["", "blue", "green"])
@pytest.mark.parametrize("given", ["", "blue", "green"])
def test_an_upgrade_that_gives_pods_another_colour_is_refused(
    live: Live, server: ApiServer, there: str, given: str
) -> None:
    """The selector would lead to none of them, or the Service would go with what was its release's."""
    server.put("deployments", deployment("lake-gateway", colour=there, **{"meta.helm.sh/release-name": "lake"}))
    if there == given:
        assert live(given or None, name="lake")
        return
    with pytest.raises(Refused, match=f"runs {f'as {there}' if there else 'in no colour'}, and this upgrade"):
        live(given or None, name="lake")
    # what is another release's is none of this one's business
    server.put("deployments", deployment("lake-gateway", colour=there, **{"meta.helm.sh/release-name": "other"}))
    assert live(given or None, name="lake")


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_a_release_that_is_called_as_the_other_colour_is_refused(render: Render, colour: str) -> None:
    other = {"blue": "green", "green": "blue"}[colour]
    with pytest.raises(Refused, match=f"global.colour is {colour}"):
        render("dev", colour, name=f"acme-{other}")
    assert render("dev", colour, name=f"acme-{colour}")
    assert render("dev", colour, name=f"ever{other}")


@pytest.mark.parametrize("name", ["lake.v2", "2lake"])
def test_a_release_that_services_can_not_be_called_by_is_refused(render: Render, name: str) -> None:
    with pytest.raises(Refused, match="begins with a letter"):
        render("dev", name=name)


@pytest.mark.parametrize(
    ("namespace", "said"),
    [("other", "of the release other/lakegate"), ("", "which no release has made"), ("lakegate", "")],
)
def test_a_second_installation_of_the_cluster_is_told_of_the_firsts_priority_classes(
    live: Live, server: ApiServer, namespace: str, said: str
) -> None:
    server.served["scheduling.k8s.io/v1"] = {"PriorityClass": "priorityclasses"}
    owner = {"meta.helm.sh/release-namespace": namespace, "meta.helm.sh/release-name": "lakegate"} if namespace else {}
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    server.put("priorityclasses", {**kind, "metadata": {"name": "lakegate-work", "annotations": owner}, "value": 1})
    sets = ("base.priorityClasses.create=true",)
    if said:
        with pytest.raises(Refused, match=rf"{said}\): one release makes them for all"):
            live("base", sets=sets)
        assert live("base")
    else:
        assert live("base", sets=sets).of("PriorityClass")


def test_what_is_kept_may_leave_its_release(live: Live, server: ApiServer) -> None:
    server.put("deployments", deployment("lakegate-gateway", **{"helm.sh/resource-policy": "keep"}))
    assert live("base").named("Service", "lakegate")


def test_an_upgrade_that_forgets_the_layout_does_not_take_the_service_from_a_colour(
    live: Live, server: ApiServer, render: Render
) -> None:
    server.put("services", {**render("dev", "base").named("Service", "lakegate")})
    with pytest.raises(Refused, match=r"Add -f charts/lakegate/releases/base\.yaml"):
        live()
    assert live("base")
    server.put("services", {**render("dev").named("Service", "lakegate")})
    assert live()


@pytest.mark.parametrize("scaled", ["autoscaling", "keda"])
def test_enabling_an_autoscaler_leaves_as_many_pods_as_there_are(live: Live, server: ApiServer, scaled: str) -> None:
    """A `replicas` that was in the manifest and is not any more would become 1, the API server's default."""
    server.put("deployments", deployment("lakegate-lineage", replicas=7))
    sets = (f"lineage.{scaled}.enabled=true", KAFKA)
    rendered = live(sets=sets)
    assert rendered.named("Deployment", "lakegate-lineage")["spec"]["replicas"] == 7
    # the first install has no number to keep, and a release without an autoscaler its own
    server.remove("deployments", "lakegate-lineage")
    assert "replicas" not in live(sets=sets).named("Deployment", "lakegate-lineage")["spec"]
    assert live().named("Deployment", "lakegate-lineage")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("base.mode=blueGreen",), "Install the base by itself"),
        (("ingest.enabled=false",), "ingest.enabled is false, but the gateway, catalog, ingest and lineage are one"),
        (tuple(f"{service}.enabled=false" for service in SERVICES), "would have no pods"),
    ],
)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_layout_in_which_nothing_would_answer_is_refused(
    render: Render, environment: str, sets: tuple[str, ...], said: str
) -> None:
    with pytest.raises(Refused) as refused:
        render(environment, sets=sets)
    assert said in str(refused.value)


def guided(name: str) -> str:
    found = re.search(rf"^\$ {name}='?([^'\n]+)'?$", GUIDE, re.MULTILINE)
    assert found, f"docs/install.md sets no {name}"
    return found[1]


def selects(selector: str, labels: dict[str, str]) -> bool:
    for term in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        if term.startswith("!"):
            held = term[1:] not in labels
        elif " in (" in term:
            name, _, values = term.rstrip(")").partition(" in (")
            held = labels.get(name) in values.split(",")
        else:
            name, _, value = term.partition("=")
            held = labels.get(name) == value
        if not held:
            return False
    return True


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_guide_from_plain_to_blue_and_green_keeps_all_that_helm_would_delete_and_deletes_nothing_else(
    render: Render, environment: str
) -> None:
    def known(documents: list[Document]) -> dict[tuple[str, str], Document]:
        return {
            (document["kind"], document["metadata"]["name"]): document
            for document in documents
            if "helm.sh/hook" not in (document["metadata"].get("annotations") or {})
        }

    plain, base = known(render(environment, sets=EVERYTHING)), known(render(environment, "base", sets=EVERYTHING))
    blue = known(render(environment, "blue", name="lakegate-blue", sets=EVERYTHING))
    selector = guided("PLAIN")
    kept = {key for key, document in plain.items() if selects(selector, labels(document))}
    assert plain.keys() - base.keys() == kept
    assert not [key for key, document in {**base, **blue}.items() if selects(selector, labels(document))]
    # kubectl is told each kind by name
    plurals = {plural.rstrip("s").removesuffix("ie") for plural in guided("KINDS").split(",")}
    assert {kind.lower().removesuffix("y") for kind, _ in kept} <= plurals


def labels(document: Document) -> dict[str, Any]:
    return document["metadata"].get("labels") or {}


def test_the_selector_that_the_guide_puts_back_is_the_plain_gateways(render: Render) -> None:
    patch = re.search(r"patch service lakegate -p '(\{.*\})'", GUIDE)
    assert patch
    selector = json.loads(patch[1])["spec"]["selector"]
    pods = [
        deployment["metadata"]["name"]
        for rendered in (render("dev"), render("dev", "blue", name="lakegate-blue"))
        for deployment in rendered.of("Deployment")
        if selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert pods == ["lakegate-gateway"]


def test_the_guides_charts_are_there() -> None:
    for path in re.findall(r"charts/lakegate/releases/\w+\.yaml", GUIDE):
        assert (CHARTS.parent / path).exists()
