"""Every call that is one request and one answer. Paths, parameters and shapes live here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

from lakegate.client.calls import Call, Operation, document, model, nothing
from lakegate.client.models import (
    Accepted,
    Dataset,
    DatasetVersion,
    DeadLetters,
    EventGroups,
    Key,
    LineageGraph,
    Load,
    LoggedEvents,
    NewKey,
    Overview,
    Page,
    RejectPage,
    Replayed,
    ReplayRequested,
    SchemaDiff,
    SearchResults,
    StreamStatus,
    Token,
)
from lakegate_contracts.names import TableName

Direction = Literal["up", "down", "both"]
CONSISTENCY_HEADER = "Lakegate-Consistency-Token"


def table_path(table: str | TableName) -> str:
    """`travel.flights` as two path segments. Raises lakegate_contracts.names.InvalidName."""
    name = TableName.parse(table) if isinstance(table, str) else table
    return f"{quote(name.namespace, safe='')}/{quote(name.name, safe='')}"


def cursor_of(following: str | None) -> str | None:
    """The cursor in a page's `next`, which is a link or the bare cursor."""
    if following is None or ("?" not in following and "/" not in following):
        return following
    return parse_qs(urlsplit(following).query).get("cursor", [None])[0]


@dataclass(frozen=True)
class Stream:
    """A GET whose answer is read line by line; parameters that are None are left out."""

    path: str
    params: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Of httpx's build_request."""
        sent = {name: value for name, value in self.params.items() if value is not None}
        return {"method": "GET", "url": self.path, "params": sent, "headers": self.headers}


def load_events(load_id: UUID | str) -> Stream:
    """The phases of a load, as server-sent events."""
    return Stream(f"/v1/loads/{load_id}/events", headers={"Accept": "text/event-stream"})


def load_rejects(load_id: UUID | str) -> Stream:
    """All that a load set aside, one JSON object a line."""
    return Stream(f"/v1/loads/{load_id}/rejects", headers={"Accept": "application/x-ndjson"})


def table_rows(
    table: str, columns: Sequence[str] | None, filter: str | None, limit: int | None, snapshot: int | None
) -> Stream:
    """A table's rows, one JSON object a line."""
    params = {
        "columns": ",".join(map(_quoted, columns)) if columns else None,
        "filter": filter,
        "limit": limit,
        "snapshot": snapshot,
        "format": "ndjson",
    }
    return Stream(f"/v1/tables/{table_path(table)}/rows", params)


def _quoted(column: str) -> str:
    if column == column.strip() and not set(column) & set(',"\r\n'):
        return column
    return '"' + column.replace('"', '""') + '"'


def stream_tail(table: str | TableName, *, earliest: bool) -> Stream:
    """Rows of a stream as they arrive, as server-sent events."""
    begin = {"begin": "earliest" if earliest else "now"}
    return Stream(f"{stream_path(table)}/tail", begin, {"Accept": "text/event-stream"})


def stream_path(table: str | TableName) -> str:
    """The path of a table's stream. Raises lakegate_contracts.names.InvalidName."""
    return f"/v1/streams/{table_path(table)}"


def send_rows(
    table: str | TableName,
    rows: Iterable[Mapping[str, Any]] | bytes,
    *,
    on_new_column: Literal["evolve", "reject"] | None = None,
    on_bad_row: Literal["refuse", "quarantine"] | None = None,
    idempotency_key: str | None = None,
) -> Call[Accepted]:
    """Stream rows (10,000 at most; or bytes with one JSON object a line) into a table.

    Answers when the brokers have them. With an `idempotency_key` a failed request is repeated by the client itself, and
    the rows are in the table once, however often they are sent. Without one, Unreachable leaves it open whether they
    arrived.
    """
    content = rows if isinstance(rows, bytes) else b"\n".join(json.dumps(row).encode() for row in rows)
    params = {"on_new_column": on_new_column, "on_bad_row": on_bad_row}
    headers = {"Content-Type": "application/x-ndjson"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    return Call("POST", stream_path(table), model(Accepted), params, headers, content=content)


def stream(table: str | TableName) -> Call[StreamStatus]:
    """Where a stream is in Kafka, and how far its table has followed it. Raises NotFound."""
    return Call("GET", stream_path(table), model(StreamStatus))


def load(load_id: UUID | str) -> Call[Load]:
    """A load's state, and its receipt or problem once it has settled. Raises NotFound."""
    return Call("GET", f"/v1/loads/{load_id}", model(Load))


def cancel_load(load_id: UUID | str) -> Call[Load]:
    """Call off a load that is not being committed yet; it then ends as failed. Raises NotFound, ProblemError."""
    return Call("DELETE", f"/v1/loads/{load_id}", model(Load))


def loads(*, table: str | None = None, limit: int = 50, cursor: str | None = None) -> Call[Page[Load]]:
    """Loads, newest first."""
    return Call("GET", "/v1/loads", model(Page[Load]), {"table": table, "limit": limit, "cursor": cursor})


def rejects(load_id: UUID | str, *, limit: int = 100, cursor: str | None = None) -> Call[RejectPage]:
    """One page of the rows that a load set aside, in the order of the file."""
    headers = {"Accept": "application/json"}
    return Call("GET", f"/v1/loads/{load_id}/rejects", model(RejectPage), {"limit": limit, "cursor": cursor}, headers)


def datasets(
    *, namespace: str | None = None, name: str | None = None, limit: int = 50, cursor: str | None = None
) -> Call[Page[Dataset]]:
    """Datasets by their OpenLineage pair; both None lists all that the caller may see."""
    params: dict[str, Any] = {"namespace": namespace, "name": name, "limit": limit, "cursor": cursor}
    return Call("GET", "/v1/datasets", model(Page[Dataset]), params)


def dataset(dataset_id: UUID | str) -> Call[Dataset]:
    """One dataset. Raises NotFound."""
    return Call("GET", f"/v1/datasets/{dataset_id}", model(Dataset))


def dataset_versions(
    dataset_id: UUID | str, *, limit: int = 50, cursor: str | None = None
) -> Call[Page[DatasetVersion]]:
    """The versions of a dataset, newest first."""
    params = {"limit": limit, "cursor": cursor}
    return Call("GET", f"/v1/datasets/{dataset_id}/versions", model(Page[DatasetVersion]), params)


def dataset_diff(dataset_id: UUID | str, older: int, newer: int) -> Call[SchemaDiff]:
    """How the schema changed from version `older` to `newer`."""
    return Call("GET", f"/v1/datasets/{dataset_id}/diff", model(SchemaDiff), {"from": older, "to": newer})


def describe_dataset(
    dataset_id: UUID | str,
    *,
    description: str | None = None,
    owner: str | None = None,
    tags: Sequence[str] | None = None,
    if_match: str | None = None,
) -> Call[Dataset]:
    """Set what is given, leave the rest. With `if_match` (an ETag), raises Conflict if the dataset has changed."""
    given = {"description": description, "owner": owner, "tags": None if tags is None else list(tags)}
    body = {name: value for name, value in given.items() if value is not None}
    headers = {} if if_match is None else {"If-Match": if_match}
    return Call("PATCH", f"/v1/datasets/{dataset_id}", model(Dataset), headers=headers, json=body)


def search(
    query: str, *, limit: int = 20, cursor: str | None = None, consistency_token: str | None = None
) -> Call[SearchResults]:
    """Search datasets. With the token of a receipt the answer includes that write (503 if it takes over 5 s)."""
    params: dict[str, Any] = {"q": query, "limit": limit, "cursor": cursor}
    headers = {} if consistency_token is None else {CONSISTENCY_HEADER: consistency_token}
    return Call("GET", "/v1/search", model(SearchResults), params, headers)


def lineage(
    namespace: str,
    name: str,
    *,
    job: bool = False,
    direction: Direction = "both",
    depth: int = 5,
    limit: int = 500,
) -> Call[LineageGraph]:
    """The graph around a dataset (or a job), `depth` hops far, at most `limit` nodes."""
    prefix = "job_" if job else ""
    params: dict[str, Any] = {f"{prefix}namespace": namespace, f"{prefix}name": name}
    params |= {"direction": direction, "depth": depth, "limit": limit}
    return Call("GET", "/v1/lineage/graph", model(LineageGraph), params)


def overview(table: str) -> Call[Overview]:
    """Catalog entry, last loads and lineage of a table in one answer; parts may be missing, see its `errors`."""
    return Call("GET", f"/v1/overview/{table_path(table)}", model(Overview))


def keys() -> Call[Page[Key]]:
    """The API keys of the tenant, without their secrets."""
    return Call("GET", "/v1/keys", model(Page[Key]))


def create_key(name: str, scopes: Sequence[str], *, expires_in_seconds: int | None = None) -> Call[NewKey]:
    """A new API key; its secret is returned here and can't be read again. Needs the scope `admin`."""
    body: dict[str, Any] = {"name": name, "scopes": list(scopes)}
    if expires_in_seconds is not None:
        body["expires_in_seconds"] = expires_in_seconds
    return Call("POST", "/v1/keys", model(NewKey), json=body)


def revoke_key(key_id: str) -> Call[None]:
    """End a key: refused within about a second by every gateway, within 10 by one that can't read the event log."""
    return Call("DELETE", f"/v1/keys/{key_id}", nothing)


def password_token(username: str, password: str, *, scope: str | None = None) -> Call[Token]:
    """A token for a user of the built-in issuer (RFC 6749, section 4.3)."""
    form = {"grant_type": "password", "username": username, "password": password}
    return Call("POST", "/oauth/token", model(Token), form=_scoped(form, scope), auth=False)


def client_token(client_id: str, client_secret: str, *, scope: str | None = None) -> Call[Token]:
    """A token for a program (RFC 6749, section 4.4)."""
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    return Call("POST", "/oauth/token", model(Token), form=_scoped(form, scope), auth=False)


def refresh_token(token: str) -> Call[Token]:
    """A fresh token for a refresh token (RFC 6749, section 6)."""
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return Call("POST", "/oauth/token", model(Token), form=form, auth=False)


def observe(run_event: dict[str, Any]) -> Call[None]:
    """Send one OpenLineage RunEvent (2-0-2)."""
    return Call("POST", "/api/v1/lineage", nothing, json=run_event)


def event_groups() -> Call[EventGroups]:
    """The consumer groups of the event log. Needs the scope `admin`, as all of the log's calls do."""
    return Call("GET", "/v1/events/groups", model(EventGroups))


def logged_events(*, after: int | None = None, topics: Sequence[str] = (), limit: int = 100) -> Call[LoggedEvents]:
    """Events after a position, oldest first. Without a position: no events, only where the log ends."""
    params = {"after": after, "topic": list(topics) or None, "limit": limit}
    return Call("GET", "/v1/events", model(LoggedEvents), params)


def replay_events(group: str, *, position: int | None = None, since: datetime | None = None) -> Call[Replayed]:
    """Have a group handle again the events after a position, or since a time. Raises NotFound."""
    body = {"position": position, "time": None if since is None else since.isoformat()}
    given = {name: value for name, value in body.items() if value is not None}
    return Call("POST", f"/v1/events/groups/{quote(group, safe='')}/replay", model(Replayed), json=given)


def forget_event_group(group: str) -> Call[None]:
    """Drop a group that nothing runs any more. Raises NotFound, and Conflict while it has a member."""
    return Call("DELETE", f"/v1/events/groups/{quote(group, safe='')}", nothing)


def dead_letters(*, group: str | None = None, limit: int = 100, before: int | None = None) -> Call[DeadLetters]:
    """Events that a group gave up on, newest first."""
    params = {"group": group, "limit": limit, "before": before}
    return Call("GET", "/v1/events/dead-letters", model(DeadLetters), params)


def replay_dead_letters(group: str, ids: Sequence[int] | None = None) -> Call[ReplayRequested]:
    """Hand these dead letters, or all of the group's, to the group again."""
    body: dict[str, Any] = {"group": group} | ({} if ids is None else {"ids": list(ids)})
    return Call("POST", "/v1/events/dead-letters/replay", model(ReplayRequested), json=body)


def readiness() -> Call[dict[str, Any]]:
    """The gateway's readiness document."""
    return Call("GET", "/readyz", document, auth=False)


def _scoped(form: dict[str, str], scope: str | None) -> dict[str, str]:
    return form if scope is None else {**form, "scope": scope}


class Operations:
    """The calls above, as methods of Client and AsyncClient."""

    send_rows = Operation(send_rows)
    stream = Operation(stream)
    load = Operation(load)
    cancel_load = Operation(cancel_load)
    loads = Operation(loads)
    rejects = Operation(rejects)
    datasets = Operation(datasets)
    dataset = Operation(dataset)
    dataset_versions = Operation(dataset_versions)
    dataset_diff = Operation(dataset_diff)
    describe_dataset = Operation(describe_dataset)
    search = Operation(search)
    lineage = Operation(lineage)
    overview = Operation(overview)
    keys = Operation(keys)
    create_key = Operation(create_key)
    revoke_key = Operation(revoke_key)
    password_token = Operation(password_token)
    client_token = Operation(client_token)
    refresh_token = Operation(refresh_token)
    observe = Operation(observe)
    event_groups = Operation(event_groups)
    logged_events = Operation(logged_events)
    replay_events = Operation(replay_events)
    forget_event_group = Operation(forget_event_group)
    dead_letters = Operation(dead_letters)
    replay_dead_letters = Operation(replay_dead_letters)
    readiness = Operation(readiness)
