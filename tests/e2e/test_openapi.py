"""The merged OpenAPI document is true: whatever it allows is answered as it promises, and never with a 500."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import APIOperation, Case, CheckContext, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from suites import Suite


def not_a_failure(context: CheckContext, response: Response, case: Case) -> bool | None:
    """A documented 501 is none: it says that this suite was not given what the path needs (streams without Kafka)."""
    return None if response.status_code == 501 else not_a_server_error(context, response, case)


CHECKS = [not_a_failure, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_every_operation_keeps_its_promise(suite: Suite, subtests: pytest.Subtests) -> None:
    described = schemathesis.openapi.from_url(f"{suite.url}/openapi.json")
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        with subtests.test(operation.label):
            keep_promise(operation, suite)


def keep_promise(operation: APIOperation, suite: Suite) -> None:
    @given(case=operation.as_strategy())
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Case) -> None:
        case.call_and_validate(headers={"authorization": f"Bearer {suite.key}"}, checks=CHECKS, timeout=45)

    check()


def test_the_document_names_every_prefix_of_the_public_surface(lake: httpx.Client) -> None:
    paths = lake.get("/openapi.json").json()["paths"]
    for prefix in (
        "/v1/loads/",
        "/v1/tables/",
        "/v1/datasets",
        "/v1/search",
        "/v1/overview/",
        "/v1/keys",
        "/v1/lineage/graph",
        "/v1/runs",
        "/v1/jobs",
        "/api/v1/lineage",
        "/iceberg/v1/",
        "/oauth/token",
    ):
        assert any(path.startswith(prefix) for path in paths), prefix
    assert not any(path.startswith("/internal") for path in paths)
