"""The routing table: what is served by whom, to whom, within which limits. Data, and how to look it up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from lakegate_contracts.identity import FILES_PATH, Scope

MIB = 1024 * 1024
READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Dialect(StrEnum):
    """How an error of the gateway itself is written."""

    PROBLEM = "problem"
    ICEBERG = "iceberg"
    OPENLINEAGE = "openlineage"
    S3 = "s3"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table.

    `reads` and `writes`: one of these scopes is needed. `named`: a pattern for the path, whose groups `tenant` and
    `namespace` are checked where it matches (`writes_named`: in writes only). `deadline_seconds`: from the last byte
    of the request to the head of the answer. `idle_seconds`: between two pieces of the answer, which may last as
    long as it likes. `body_limit_bytes`: None is the limit of a load, from the settings. `sockets`: WebSockets are
    relayed, too, and count as writes. `events`: a GET of these paths is a stream of server-sent events, which goes on
    for minutes: it takes a place of its tenant, and ends with its credential.
    """

    prefix: str
    upstream: str
    reads: tuple[Scope, ...]
    writes: tuple[Scope, ...]
    named: re.Pattern[str] | None = None
    writes_named: bool = False
    deadline_seconds: float = 30.0
    idle_seconds: float = 60.0
    body_limit_bytes: int | None = 8 * MIB
    dialect: Dialect = Dialect.PROBLEM
    sockets: bool = False
    events: re.Pattern[str] | None = None

    def scopes(self, method: str, path: str) -> tuple[Scope, ...]:
        """The scopes of which one is needed. A reader's metrics report is a POST, and yet a read."""
        if method in READS or (self.dialect is Dialect.ICEBERG and path.endswith("/metrics")):
            return self.reads
        return self.writes

    def is_events(self, method: str, path: str) -> bool:
        return self.events is not None and method == "GET" and self.events.fullmatch(path) is not None

    def names(self, method: str, path: str) -> tuple[str | None, str | None]:
        """Tenant and namespace as the path says them; levels of an Iceberg namespace are joined with '.'."""
        if self.named is None or (self.writes_named and method in READS):
            return None, None
        found = self.named.match(path)
        if found is None:
            return None, None
        names = found.groupdict()
        namespace = names.get("namespace")
        return names.get("tenant"), namespace.replace("\x1f", ".") if namespace else None


_ADMIN = (Scope.ADMIN,)
_READ = (Scope.DATASETS_READ,)
_WRITE = (Scope.DATASETS_WRITE,)
_LINEAGE_READ = (Scope.LINEAGE_READ,)
_LINEAGE_WRITE = (Scope.LINEAGE_WRITE,)
# who loads may follow the load, and so may who reads what it wrote
_FOLLOW = (Scope.LOADS_WRITE, Scope.DATASETS_READ)

# A load answers within its `Prefer: wait` of at most 30 s; the rest is for what comes before and after.
_LOAD_DEADLINE = 45.0
# An SSE stream sends a comment at least this often, a download its next batch.
_STREAM_IDLE = 120.0

ROUTES = (
    Route(
        "/v1/loads",
        "ingest",
        _FOLLOW,
        (Scope.LOADS_WRITE,),
        # without a table behind it, and in a GET, the same place holds the load's id
        named=re.compile(r"/v1/loads/(?P<namespace>[^/]+)/[^/]"),
        writes_named=True,
        deadline_seconds=_LOAD_DEADLINE,
        idle_seconds=_STREAM_IDLE,
        body_limit_bytes=None,
        events=re.compile(r"/v1/loads/[^/]+/events"),
    ),
    Route("/v1/uploads", "ingest", (Scope.LOADS_WRITE,), (Scope.LOADS_WRITE,), body_limit_bytes=MIB),
    Route(
        "/v1/streams",
        "ingest",
        _FOLLOW,
        (Scope.LOADS_WRITE,),
        named=re.compile(r"/v1/streams/(?P<namespace>[^/]+)"),
        # the brokers may take their time to confirm, and a request may wait for its turn to be judged
        deadline_seconds=_LOAD_DEADLINE,
        idle_seconds=_STREAM_IDLE,
        body_limit_bytes=16 * MIB,
        sockets=True,
        events=re.compile(r"/v1/streams/[^/]+/[^/]+/tail"),
    ),
    Route(
        "/v1/tables",
        "ingest",
        _READ,
        _WRITE,
        named=re.compile(r"/v1/tables/(?P<namespace>[^/]+)"),
        idle_seconds=_STREAM_IDLE,
    ),
    Route("/iceberg/v1/config", "catalog", _READ, _WRITE, dialect=Dialect.ICEBERG),
    Route(
        "/iceberg/v1",
        "catalog",
        _READ,
        _WRITE,
        # the prefix that the config answer gives is the tenant
        named=re.compile(r"/iceberg/v1/(?P<tenant>[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"),
        deadline_seconds=60,
        body_limit_bytes=64 * MIB,
        dialect=Dialect.ICEBERG,
    ),
    Route("/v1/datasets", "catalog", _READ, _WRITE),
    Route("/v1/search", "catalog", _READ, _WRITE),
    Route(
        "/api/v1/lineage",
        "lineage",
        _LINEAGE_READ,
        _LINEAGE_WRITE,
        body_limit_bytes=16 * MIB,
        dialect=Dialect.OPENLINEAGE,
    ),
    Route("/v1/lineage", "lineage", _LINEAGE_READ, _LINEAGE_WRITE),
    Route("/v1/runs", "lineage", _LINEAGE_READ, _LINEAGE_WRITE),
    Route("/v1/jobs", "lineage", _LINEAGE_READ, _LINEAGE_WRITE),
    Route("/v1/events", "lineage", _ADMIN, _ADMIN),
)

# Requests signed as S3's are, whatever their path, with keys that the catalog handed out for one table: the bucket
# may be called as a path of ours is. The catalog checks the signature, and with it what the keys are for.
FILES = Route(
    FILES_PATH,
    "catalog",
    (),
    (),
    # the end of a multipart upload puts its parts together; meanwhile the answer has begun
    deadline_seconds=60,
    body_limit_bytes=None,
    dialect=Dialect.S3,
)

# Below a relayed prefix, yet the gateway's own.
OWN_PATHS = frozenset({"/iceberg/v1/oauth/tokens"})

_BY_PREFIX = {route.prefix: route for route in ROUTES}
_LONGEST = max(route.prefix.count("/") for route in ROUTES)


def match(path: str) -> Route | None:
    """The route of a path, by whole segments; None when the gateway serves it itself, or nobody does."""
    end = 0
    found = None
    for _ in range(_LONGEST):
        end = path.find("/", end + 1)
        if end < 0:
            end = len(path)
        candidate = _BY_PREFIX.get(path[:end])
        if candidate is not None:
            found = candidate
        if end == len(path):
            break
    return None if found is not None and path in OWN_PATHS else found
