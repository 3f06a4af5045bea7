"""What runs beside the services: sweeps by CronJobs, large loads as Jobs."""

from __future__ import annotations

import json
import re

import pytest
from charts_rendering import LOAD_JOBS, SERVICES, Render, data, pod_labels, pod_of

from lakegate_ingest.workers.kubernetes import JobFile, Size


@pytest.mark.parametrize("service", SERVICES)
def test_sweeps_run_in_the_pods_or_by_a_cron_job_and_never_both(render: Render, service: str) -> None:
    variable = f"{service.upper()}_SWEEPS_IN_PROCESS"
    plain = render()
    assert not plain.of("CronJob")
    assert data(plain, f"lakegate-{service}")[variable] == "true"
    swept = render(sets=(f"{service}.sweep.enabled=true",))
    assert data(swept, f"lakegate-{service}")[variable] == "false"
    job = swept.one("CronJob")
    assert job["metadata"]["name"] == f"lakegate-{service}-sweep"
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    pod, served = pod_of(job), pod_of(swept.one("Deployment", component=service))
    container, serving = pod["containers"][0], served["containers"][0]
    # the very settings of the service, by another entry point of its image
    assert container["args"] == [f"lakegate_{service}.sweep"]
    assert (container["image"], container["envFrom"]) == (serving["image"], serving["envFrom"])
    assert container["env"] == serving["env"]
    own = {"search", "spool"}
    assert [mount for mount in serving["volumeMounts"] if mount["name"] not in own] == container["volumeMounts"]
    # no Service sends requests to it
    for selected in swept.of("Service"):
        assert not (selected["spec"].get("selector") or {"": ""}).items() <= pod_labels(job).items()


def test_a_cron_job_of_a_colour_knows_whose_turn_it_is(render: Render) -> None:
    green = render("prod", "green", name="lakegate-green")
    for service in SERVICES[1:]:
        job = green.named("CronJob", f"lakegate-green-{service}-sweep")
        assert any(volume["name"] == "turn" for volume in pod_of(job)["volumes"])


def test_ingest_makes_jobs_of_large_loads_with_exactly_the_rights_for_it(render: Render) -> None:
    plain = render("prod")
    assert not plain.load_jobs
    assert not any("WORKER" in name for name in data(plain, "lakegate-ingest"))
    rendered = render("prod", sets=LOAD_JOBS)
    [config] = rendered.load_jobs
    variables = data(rendered, "lakegate-ingest")
    deployment = rendered.one("Deployment", component="ingest")
    [mount] = [mount for mount in pod_of(deployment)["containers"][0]["volumeMounts"] if mount["name"] == "load-job"]
    assert variables["INGEST_WORKER__JOB_FILE"] == f"{mount['mountPath']}/job.json"
    assert (variables["INGEST_WORKER__MODE"], variables["INGEST_WORKER__LEAST_BYTES"]) == ("kubernetes", str(1 << 30))
    [role] = [role for role in rendered.of("Role") if role["metadata"]["name"] == "lakegate-ingest-load"]
    assert role["rules"] == [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "delete"]}]
    binding = rendered.named("RoleBinding", "lakegate-ingest-load")
    assert [subject["name"] for subject in binding["subjects"]] == [pod_of(deployment)["serviceAccountName"]]
    # the worker itself has none of them
    job = JobFile.model_validate_json(config["data"]["job.json"]).manifest
    assert pod_of(job)["serviceAccountName"] not in [subject["name"] for subject in binding["subjects"]]
    assert (job["metadata"]["namespace"], len(job["metadata"]["name"]) <= 30) == ("lakegate", True)


def test_the_job_of_a_load_is_an_ingest_without_an_api(render: Render) -> None:
    rendered = render(sets=LOAD_JOBS)
    file = JobFile.model_validate_json(rendered.load_jobs[0]["data"]["job.json"])
    job, deployment = file.manifest, rendered.one("Deployment", component="ingest")
    [worker], [serving] = pod_of(job)["containers"], pod_of(deployment)["containers"]
    assert worker["args"] == ["lakegate_ingest.worker"]
    assert (worker["image"], worker["envFrom"], worker["env"]) == (serving["image"], serving["envFrom"], serving["env"])
    mounted = {mount["name"] for mount in serving["volumeMounts"]}
    assert {mount["name"] for mount in worker["volumeMounts"]} == mounted - {"load-job"}
    [spool] = [volume for volume in pod_of(job)["volumes"] if volume["name"] == "spool"]
    assert spool["emptyDir"] == {}
    assert job["spec"]["backoffLimit"] >= 1
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert [size.least_bytes for size in file.sizes] == [0, 8 << 30]


def test_the_file_of_jobs_holds_what_ingest_reads_and_may_hold_more(render: Render) -> None:
    text = json.loads(render(sets=LOAD_JOBS).load_jobs[0]["data"]["job.json"])
    assert text.keys() == JobFile.model_fields.keys()
    assert all(size.keys() == Size.model_fields.keys() for size in text["sizes"])
    # of a later release, while pods of this one run
    text["sizes"][0]["disk"] = text["disk"] = "fast"
    assert JobFile.model_validate(text).size(0).least_bytes == 0


def test_the_admission_policy_holds_jobs_of_ingest_to_what_its_own_has(render: Render) -> None:
    assert not render(sets=LOAD_JOBS).of("ValidatingAdmissionPolicy")
    # nothing to hold without them
    guarded = "ingest.loadJobs.admissionPolicy=true"
    assert not render(sets=(guarded,)).of("ValidatingAdmissionPolicy")
    for environment in ("dev", "prod"):
        rendered = render(environment, "blue", name="lakegate-blue", sets=(*LOAD_JOBS, guarded))
        policy, binding = rendered.one("ValidatingAdmissionPolicy"), rendered.one("ValidatingAdmissionPolicyBinding")
        assert (binding["spec"]["policyName"], binding["spec"]["validationActions"]) == (
            policy["metadata"]["name"],
            ["Deny"],
        )
        spec = policy["spec"]
        assert spec["failurePolicy"] == "Fail"
        assert spec["matchConstraints"]["namespaceSelector"]["matchLabels"] == {
            "kubernetes.io/metadata.name": "lakegate"
        }
        maker = pod_of(rendered.one("Deployment", component="ingest"))["serviceAccountName"]
        [condition] = spec["matchConditions"]
        assert condition["expression"].endswith(f'== "system:serviceaccount:lakegate:{maker}"')
        # what its own manifest names, and nothing besides
        pod = pod_of(JobFile.model_validate_json(rendered.load_jobs[0]["data"]["job.json"]).manifest)
        [container] = pod["containers"]
        named = {item["valueFrom"]["secretKeyRef"]["name"] for item in container["env"] if "valueFrom" in item}
        named |= {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        variables = {item["name"]: item["expression"] for item in spec["variables"]}
        assert set(json.loads(variables["secrets"])) == named
        account, _, volumes = (item["expression"] for item in spec["validations"])
        assert account.endswith(f'== "{pod["serviceAccountName"]}"')
        assert f"claimName in {json.dumps(claims)}" in volumes
        # every kind of volume that the Job has is one that is let through, and none that could bring a Secret otherwise
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert (
            kinds
            <= set(re.findall(r"has\(volume\.(\w+)\)", volumes))
            == {
                "emptyDir",
                "configMap",
                "secret",
                "persistentVolumeClaim",
            }
        )


def test_admission_policies_of_two_installations_are_two(render: Render) -> None:
    """They are of the cluster: a name of the namespace's alone would be taken by the first."""
    sets = (*LOAD_JOBS, "ingest.loadJobs.admissionPolicy=true")
    names = {
        render("prod", colour, name=f"lakegate-{colour}", sets=sets).one("ValidatingAdmissionPolicy")["metadata"][
            "name"
        ]
        for colour in ("blue", "green")
    }
    assert names == {"lakegate-blue-ingest-load.lakegate", "lakegate-green-ingest-load.lakegate"}
