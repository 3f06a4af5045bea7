from __future__ import annotations

import pytest

from lakegate.settings import inherited_environment


def test_services_inherit_all_but_the_command_lines_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALOG_STORE__MONGODB__URL", "mongodb://db.example")
    monkeypatch.setenv("INGEST_SPOOL__QUOTA_BYTES", "1")
    monkeypatch.setenv("LAKEGATE_KEY", "lgk_x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    inherited = inherited_environment()
    assert inherited["CATALOG_STORE__MONGODB__URL"] == "mongodb://db.example"
    assert inherited["INGEST_SPOOL__QUOTA_BYTES"] == "1"
    assert inherited["HTTPS_PROXY"] == "http://proxy.example"
    assert "LAKEGATE_KEY" not in inherited
