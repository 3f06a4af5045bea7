"""The four services of a suite as processes: module, environment, order of their end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakegate.embedded.layout import Home
from lakegate.embedded.ports import HOST, SERVICES, Ports
from lakegate.embedded.secret_files import secret

# What the keygen of the gateway writes beside the private keys.
PUBLIC_KEYS = "internal.jwks.json"

# A laptop has no load balancer to leave: requests in flight are finished, new ones need not be waited for.
_DRAIN_SECONDS = {"gateway": "0.5", "catalog": "0", "ingest": "0", "lineage": "0"}


@dataclass(frozen=True)
class Service:
    """How one service is started and how long its end may take."""

    name: str
    port: int
    management_port: int
    environment: Mapping[str, str]
    log: Path
    end_seconds: float

    @property
    def module(self) -> str:
        return f"lakegate_{self.name}"


_OBJECTS = "CATALOG_OBJECTS__"


def _objects_of_the_catalog(inherited: Mapping[str, str]) -> dict[str, str]:
    """How the catalog reaches the object store is how ingest does, where nothing else is said."""
    found = {name.removeprefix("CATALOG_"): value for name, value in inherited.items() if name.startswith(_OBJECTS)}
    return {name: value for name, value in found.items() if f"INGEST_{name}" not in inherited}


def _chosen_by_default(name: str, home: Home) -> dict[str, str]:
    """What the environment may say otherwise."""
    folders = {"catalog": {"SEARCH__DIR": str(home.search)}, "ingest": {"SPOOL__DIR": str(home.spool)}}
    chosen = {"DRAIN_SECONDS": _DRAIN_SECONDS[name], **folders.get(name, {})}
    return {f"{name.upper()}_{setting}": value for setting, value in chosen.items()}


def _meant_for(name: str, inherited: Mapping[str, str], decided: Mapping[str, str]) -> dict[str, str]:
    """The environment without the settings of other services, whose secrets they may be, and what is decided here.

    A service reads its variables in any case, so that two spellings of one would be a matter of luck.
    """
    others = tuple(f"{other.upper()}_" for other in SERVICES if other != name)
    kept = {}
    for variable, value in inherited.items():
        upper = variable.upper()
        if not upper.startswith(others) and upper not in decided:
            kept[upper if upper.startswith(f"{name.upper()}_") else variable] = value
    return kept


def _process_variables(name: str) -> dict[str, str]:
    """For the interpreter and the allocators, which no setting reaches."""
    variables = {
        "PYTHONUNBUFFERED": "1",
        # glibc gives each thread an arena of its own and keeps what is freed; two are enough here.
        "MALLOC_ARENA_MAX": "2",
        # Arrow's own choice keeps tens of MB more of what other threads have freed.
        "ARROW_DEFAULT_MEMORY_POOL": "jemalloc",
    }
    if name == "ingest":
        # Buffers of megabytes come and go: what the kernel had to hand out anew each time cost a tenth of a load.
        variables |= {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
    return variables


def _own_settings(home: Home, ports: Ports, admin_key: str, inherited: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What is decided for one service and for no other."""
    urls = {name: f"http://{HOST}:{port}" for name, port in ports.api.items()}
    keys = home.secrets / "keys"
    # an object store is named once, to the catalog
    warehouse = inherited.get("CATALOG_WAREHOUSE__LOCATION", home.warehouse.as_uri())
    return {
        "gateway": {
            "CATALOG_URL": urls["catalog"],
            "INGEST_URL": urls["ingest"],
            "LINEAGE_URL": urls["lineage"],
            "TOKEN__PRIVATE_KEY": str(keys),
            "BOOTSTRAP__KEY": admin_key,
            "ISSUER__URL": urls["gateway"],
        },
        "catalog": {
            "WAREHOUSE__LOCATION": warehouse,
            "FILES__ENDPOINT": urls["gateway"],
            "FILES__KEY": secret(home.secrets / "files.key"),
        },
        "ingest": {
            "CATALOG_URL": urls["catalog"],
            "TOKEN_EXCHANGE_URL": f"http://{HOST}:{ports.management['gateway']}/internal/token",
            "QUARANTINE__LOCATION": warehouse,
            **_objects_of_the_catalog(inherited),
        },
        "lineage": {},
    }


def services(
    home: Home, ports: Ports, postgres_urls: Mapping[str, str], admin_key: str, inherited: Mapping[str, str]
) -> list[Service]:
    """All four, the gateway first: it is also the first to end, so that no request meets a missing upstream."""
    own = _own_settings(home, ports, admin_key, inherited)
    keys = home.secrets / "keys"
    made = []
    for name in SERVICES:
        settings = {
            "HOST": HOST,
            "PORT": str(ports.api[name]),
            "MANAGEMENT_PORT": str(ports.management[name]),
            "POSTGRES__URL": postgres_urls[name],
            **own[name],
        }
        if name != "gateway":
            settings["TOKEN__JWKS"] = str(keys / PUBLIC_KEYS)
        decided = {f"{name.upper()}_{setting}": value for setting, value in settings.items()}
        environment = {
            **_chosen_by_default(name, home),
            **_meant_for(name, inherited, decided),
            **decided,
            **_process_variables(name),
        }
        made.append(
            Service(
                name,
                ports.api[name],
                ports.management[name],
                environment,
                home.log(name),
                # A request may wait 30 s for its load; ingest's own jobs are picked up again at the next start.
                end_seconds=35.0 if name == "gateway" else 15.0,
            )
        )
    return made
