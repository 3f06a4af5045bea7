"""The documents are true: generated pages are current, links lead somewhere, every problem has its page."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lakegate_chassis.problems import Problem
from lakegate_contracts.events import EVENTS, EventData

ROOT = Path(__file__).parents[2]
SERVICES = ("gateway", "catalog", "ingest", "lineage")
Metrics = dict[str, dict[str, tuple[str, list[str], str]]]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_is_what_the_settings_classes_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == generator().settings_page(), "run: make docs"


def test_the_events_page_and_asyncapi_are_what_the_contracts_say() -> None:
    made, page = generator(), ROOT / "docs" / "events.md"
    assert page.read_text() == made.events_page(page.read_text()), "run: make docs"
    assert (ROOT / "docs" / "asyncapi.json").read_text() == made.asyncapi(), "run: make docs"


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    listed: Metrics = generator().metrics_by_service()
    return listed


def test_the_metrics_page_is_what_the_services_declare(monkeypatch: pytest.MonkeyPatch, metrics: Metrics) -> None:
    made = generator()
    monkeypatch.setattr(made, "metrics_by_service", lambda: metrics)
    assert (ROOT / "docs" / "metrics.md").read_text() == made.metrics_page(), "run: make docs"


def test_metrics_have_names_that_tell_and_labels_with_few_values(metrics: Metrics) -> None:
    for service, declared in metrics.items():
        for name, (kind, labels, tells) in declared.items():
            assert name.startswith("lakegate_"), name
            assert len(tells) > 15, name
            assert not {"tenant", "subject", "path", "namespace", "url", "id"} & set(labels), name
            own = re.match(r"lakegate_(gateway|catalog|ingest|lineage)_", name)
            assert own is None or own[1] == service, name
            assert kind != "histogram" or name.endswith(("_seconds", "_bytes", "_events", "_rows")), name


def test_every_reference_in_asyncapi_leads_somewhere() -> None:
    text = (ROOT / "docs" / "asyncapi.json").read_text()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
        place = json.loads(text)
        for name in reference.split("/"):
            place = place[name]


def test_every_event_of_the_contracts_is_on_the_page() -> None:
    assert set(EventData.__subclasses__()) == set(EVENTS)


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_has_a_description(service: str) -> None:
    made = generator()
    bare = [name for name, field in made.variables(made.settings_class(service)) if not field.description]
    assert bare == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#|/", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def problem_classes() -> Iterator[type[Problem]]:
    for service in SERVICES:
        package = importlib.import_module(f"lakegate_{service}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    pending = [Problem]
    while pending:
        found = pending.pop()
        yield found
        pending += found.__subclasses__()


def test_every_problem_has_a_page_and_every_page_a_problem() -> None:
    slugs = {problem.slug for problem in problem_classes() if not problem.__module__.startswith("test")}
    pages = {page.stem for page in (ROOT / "docs" / "problems").glob("*.md")} - {"README"}
    assert (slugs - pages, pages - slugs) == (set(), set())


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_without_its_settings_says_which_and_exits_78(service: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"lakegate_{service}"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin"},
        timeout=60,
    )
    assert done.returncode == 78
    assert f"setting {service.upper()}_POSTGRES__URL: Field required" in done.stderr
