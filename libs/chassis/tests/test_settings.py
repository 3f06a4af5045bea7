from __future__ import annotations

import pytest
from pydantic import ValidationError

from lakegate_chassis.settings import EX_CONFIG, BackendSettings, load, settings_config


class LibrarySettings(BackendSettings):
    model_config = settings_config("LIBRARY_")
    port: int = 8099
    management_port: int = 9099


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("LIBRARY_POSTGRES__URL", "postgresql://app:hidden@127.0.0.1/db")
    monkeypatch.setenv("LIBRARY_TOKEN__JWKS", __file__)
    return monkeypatch


def test_nested_settings_are_read_from_the_environment(complete: pytest.MonkeyPatch) -> None:
    complete.setenv("LIBRARY_POSTGRES__POOL_MAX", "3")
    settings = load(LibrarySettings)
    assert (settings.postgres.pool_max, settings.port) == (3, 8099)


def test_a_missing_section_is_named_by_its_required_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(LibrarySettings)
    assert stop.value.code == EX_CONFIG
    lines = capsys.readouterr().err.splitlines()
    assert "setting LIBRARY_POSTGRES__URL: Field required" in lines
    assert "setting LIBRARY_TOKEN__JWKS: Field required" in lines


def test_a_bad_value_is_named_without_being_shown(
    complete: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    complete.setenv("LIBRARY_POSTGRES__POOL_MAX", "s3cret")
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    said = capsys.readouterr().err
    assert said.startswith("setting LIBRARY_POSTGRES__POOL_MAX: ")
    assert "s3cret" not in said


def test_an_unknown_nested_variable_is_refused(
    complete: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    complete.setenv("LIBRARY_POSTGRES__POOL_MAXIMUM", "3")
    with pytest.raises(SystemExit):
        load(LibrarySettings)
    assert "LIBRARY_POSTGRES__POOL_MAXIMUM" in capsys.readouterr().err


def test_a_misspelt_variable_is_refused(complete: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    complete.setenv("LIBRARY_PROT", "8100")
    with pytest.raises(SystemExit) as stop:
        load(LibrarySettings)
    assert stop.value.code == EX_CONFIG
    assert "setting LIBRARY_PROT: there is no such setting" in capsys.readouterr().err


def test_settings_are_frozen_to_the_last_level(complete: pytest.MonkeyPatch) -> None:
    settings = load(LibrarySettings)
    with pytest.raises(ValidationError):
        settings.postgres.pool_max = 4  # type: ignore[misc]


def test_a_password_is_not_shown_when_settings_are_printed(complete: pytest.MonkeyPatch) -> None:
    assert "hidden" not in repr(load(LibrarySettings))
