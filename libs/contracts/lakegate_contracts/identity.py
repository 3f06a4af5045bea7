"""Who calls: what the gateway tells the services in a signed token."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict

TOKEN_TYPE = "lakegate-internal+jwt"
DELEGATION_TYPE = "lakegate-delegation+jwt"
DELEGATION_HEADER = "lakegate-delegation"
# What the gateway signs for an Iceberg client to carry as the session token of its S3 keys; no service accepts it.
FILE_TOKEN_TYPE = "lakegate-files+jwt"
FILE_TOKEN_HEADER = "lakegate-file-token"
# A signed S3 request as it goes on to the catalog: below this path, with what its client signed.
FILES_PATH = "/files"
SIGNATURE_HEADER = "lakegate-signature"
SIGNED_HOST_HEADER = "lakegate-signed-host"


class Scope(StrEnum):
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    LOADS_WRITE = "loads:write"
    LINEAGE_READ = "lineage:read"
    LINEAGE_WRITE = "lineage:write"
    ADMIN = "admin"


class Principal(BaseModel):
    """An authenticated caller. A scope may carry a namespace pattern: `loads:write@travel.*`."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    subject: str
    scopes: tuple[str, ...]

    def allows(self, scope: Scope, namespace: str | None = None) -> bool:
        """Whether a held scope covers `scope` in `namespace` (None: in some namespace). Admin covers all."""
        for held in self.scopes:
            name, _, pattern = held.partition("@")
            if name not in (scope, Scope.ADMIN):
                continue
            if not pattern or namespace is None or covers(pattern, namespace):
                return True
        return False


def covers(pattern: str, namespace: str) -> bool:
    """Match a namespace; `travel.*` covers `travel` and everything below it."""
    if pattern.endswith(".*") and namespace == pattern[:-2]:
        return True
    return fnmatchcase(namespace, pattern)
