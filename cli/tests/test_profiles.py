from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lakegate.profiles import Profile, ProfileError, choose, is_chosen, read_profiles, save_profile
from lakegate.settings import Environment


def environment(config: Path, **given: str) -> Environment:
    return Environment(
        url=given.get("url"),
        key=given.get("key"),
        profile=given.get("profile"),
        config=config,
        home=config.parent,
        postgres_url=None,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "config.toml"


def test_a_saved_profile_is_read_back(config: Path) -> None:
    save_profile(config, Profile("local", "http://127.0.0.1:8080", "lgk_a"))
    save_profile(config, Profile('odd "name" \\ ü', "https://lake.example", None))

    read = read_profiles(config)

    assert read.default == "local"
    assert read.profiles["local"] == Profile("local", "http://127.0.0.1:8080", "lgk_a")
    assert read.profiles['odd "name" \\ ü'].key is None


def test_the_file_is_for_its_owner_alone(config: Path) -> None:
    config.parent.mkdir()
    config.write_text("")
    config.chmod(0o644)

    save_profile(config, Profile("local", "http://x", "secret"))

    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert [entry.name for entry in config.parent.iterdir()] == ["config.toml"]


def test_saving_again_replaces_and_keeps_the_others(config: Path) -> None:
    save_profile(config, Profile("local", "http://one", "a"))
    save_profile(config, Profile("prod", "http://two", "b"))
    save_profile(config, Profile("local", "http://three", "c"))

    read = read_profiles(config)

    assert {name: profile.url for name, profile in read.profiles.items()} == {
        "local": "http://three",
        "prod": "http://two",
    }


def test_the_environment_wins_over_the_file(config: Path) -> None:
    save_profile(config, Profile("local", "http://one", "a"))

    chosen = choose(environment(config, url="http://given", key="k"), None)

    assert (chosen.url, chosen.key) == ("http://given", "k")


def test_a_named_profile_wins_over_the_environment(config: Path) -> None:
    save_profile(config, Profile("local", "http://one", "a"))

    assert choose(environment(config, url="http://given"), "local").url == "http://one"


def test_a_profile_is_chosen_when_commands_that_name_none_reach_its_gateway(config: Path) -> None:
    first, second = Profile("prod", "https://lake.example", "a"), Profile("local", "http://one", "b")
    assert not is_chosen(environment(config), first)
    save_profile(config, first)
    save_profile(config, second)

    assert is_chosen(environment(config), first)
    assert not is_chosen(environment(config), second)
    assert is_chosen(environment(config, profile="local"), second)
    assert is_chosen(environment(config, url="http://one/"), second)
    assert not is_chosen(environment(config, profile="gone"), second)


def test_an_unknown_profile_is_answered_with_the_known_ones(config: Path) -> None:
    save_profile(config, Profile("local", "http://one", "a"))

    with pytest.raises(ProfileError, match=r'no profile "prod".*has: local'):
        choose(environment(config), "prod")


def test_no_configuration_says_how_to_get_one(config: Path) -> None:
    with pytest.raises(ProfileError, match="lakegate up"):
        choose(environment(config), None)


@pytest.mark.parametrize("text", ["default = ", "[profiles.local]\nkey = 'x'\n", "\xff"])
def test_a_broken_file_is_named(config: Path, text: str) -> None:
    config.parent.mkdir()
    config.write_bytes(text.encode("latin-1"))

    with pytest.raises(ProfileError, match=r"config\.toml"):
        choose(environment(config), None)
