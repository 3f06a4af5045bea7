"""What the objects are called: whole, apart, and as before."""

from __future__ import annotations

import json

from charts_rendering import KAFKA, LOAD_JOBS, SERVICES, Render

COMPONENT = "app.kubernetes.io/component"


def test_two_colours_share_no_object(render: Render) -> None:
    def names(colour: str) -> set[tuple[str, str]]:
        documents = render("prod", colour, name=f"lakegate-{colour}")
        return {(document["kind"], document["metadata"]["name"]) for document in documents}

    assert names("blue").isdisjoint(names("green"))


def test_no_two_objects_are_called_alike_however_long_a_release_is_called(render: Render) -> None:
    """helm takes 53 characters; Services and Jobs 63, CronJobs 52, what a load's Job begins with 30."""
    sets = (KAFKA, *LOAD_JOBS)
    most = {"CronJob": 52, "Job": 63, "Service": 63}
    for length in (25, 26, 44, 53):
        name = "a" * (length - 6) + "-green"
        rendered = render("prod", "green", name=name, sets=sets)
        assert len({(d["kind"], d["metadata"]["name"]) for d in rendered}) == len(rendered)
        for document in rendered:
            assert len(document["metadata"]["name"]) <= most.get(document["kind"], 253)
        for deployment in rendered.of("Deployment"):
            component = deployment["metadata"]["labels"][COMPONENT]
            assert deployment["metadata"]["name"] == f"{name}-{component}"
        load = json.loads(rendered.load_jobs[0]["data"]["job.json"])["manifest"]["metadata"]["name"]
        assert len(load) <= 30


def test_two_colours_of_a_long_name_share_no_object_either(render: Render) -> None:
    def names(colour: str) -> set[tuple[str, str]]:
        documents = render("prod", colour, name=f"acme-data-platform-lakehouse-{colour}", sets=LOAD_JOBS)
        return {(document["kind"], document["metadata"]["name"]) for document in documents}

    assert names("blue").isdisjoint(names("green"))


def test_names_of_usual_releases_are_what_they_were(render: Render) -> None:
    jobs = render("prod", "green", name="lakegate-staging-green", sets=LOAD_JOBS)
    assert jobs.load_jobs[0]["metadata"]["name"] == "lakegate-staging-green-in-load"
    swept = {job["metadata"]["name"] for job in jobs.of("CronJob")}
    assert swept == {f"lakegate-staging-green-{service}-sweep" for service in SERVICES}
