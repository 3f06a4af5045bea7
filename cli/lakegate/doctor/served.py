"""What the API server serves: kinds by API version, as its discovery tells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lakegate.rollout.api import Api, Document
from lakegate.rollout.errors import NotFound

_CORE = "v1"


@dataclass(frozen=True)
class Resource:
    """`name` is the plural that paths and rights have."""

    group: str
    name: str
    namespaced: bool


def listed(api: Api, path: str, query: dict[str, str]) -> list[Document]:
    """What a list holds; an aggregated API may say null for nothing."""
    return api.call("GET", path, query=query).get("items") or []


class Served:
    """Asks once for each API version."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, dict[str, Resource]] = {}

    @cached_property
    def versions(self) -> list[str]:
        """`apps/v1`, `gateway.networking.k8s.io/v1`, …"""
        groups = self._api.call("GET", "/apis")["groups"]
        return [_CORE, *(version["groupVersion"] for group in groups for version in group["versions"])]

    def resource(self, version: str, kind: str) -> Resource | None:
        if version not in self._known:
            self._known[version] = self._ask(version)
        return self._known[version].get(kind)

    def _ask(self, version: str) -> dict[str, Resource]:
        path = f"/api/{version}" if version == _CORE else f"/apis/{version}"
        try:
            listed: list[Document] = self._api.call("GET", path)["resources"]
        except NotFound:
            return {}
        group = version.rpartition("/")[0]
        # `deployments/scale` has a kind of its own and is no resource to be made
        return {
            item["kind"]: Resource(group, item["name"], item["namespaced"])
            for item in listed
            if "/" not in item["name"]
        }
