from __future__ import annotations

import pytest

from lakegate.settings import inherited_environment

ON_KAFKA = ("CATALOG", "INGEST", "LINEAGE")


def test_services_inherit_the_servers_that_were_chosen_and_no_other_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALOG_STORE__MONGODB__URL", "mongodb://db.example")
    for service in ON_KAFKA:
        monkeypatch.setenv(f"{service}_KAFKA__BOOTSTRAP", "kafka.example:9092")
    monkeypatch.setenv("CATALOG_PORT", "1")
    monkeypatch.setenv("LAKEGATE_KEY", "lgk_x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    inherited = inherited_environment()
    assert inherited["CATALOG_STORE__MONGODB__URL"] == "mongodb://db.example"
    assert {inherited[f"{service}_KAFKA__BOOTSTRAP"] for service in ON_KAFKA} == {"kafka.example:9092"}
    assert inherited["HTTPS_PROXY"] == "http://proxy.example"
    assert not {"CATALOG_PORT", "LAKEGATE_KEY"} & inherited.keys()
