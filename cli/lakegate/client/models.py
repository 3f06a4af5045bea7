"""What the API answers, as frozen models. Fields that a newer server adds are kept (`extra="allow"`), not refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lakegate_contracts.receipts import LoadState, Receipt

Item = TypeVar("Item")


class Wire(BaseModel):
    """The base of every answer: frozen, and tolerant of fields that this version doesn't know."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class FieldProblem(Wire):
    """One thing wrong in a request; `pointer` is a JSON pointer or the name of a parameter."""

    detail: str
    pointer: str | None = None


class Problem(Wire):
    """An RFC 9457 problem."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    instance: str | None = None
    trace_id: str | None = None
    # older servers say null within an overview
    errors: Annotated[list[FieldProblem], BeforeValidator(lambda given: given or [])] = Field(default_factory=list)

    @property
    def slug(self) -> str:
        """The last segment of `type`: `load-too-large` of `/problems/load-too-large`."""
        return self.type.rsplit("/", 1)[-1]


class Page(Wire, Generic[Item]):
    """One page of a list; `next` is a link or a cursor to the following one, None on the last page."""

    items: list[Item] = Field(default_factory=list)
    next: str | None = None


class Progress(Wire):
    """How far a load has got; rows and bytes restart at 0 when it is read a second time, row by row."""

    bytes_received: int = 0
    bytes_read: int = 0
    bytes_total: int | None = None
    rows: int = 0


class Load(Wire):
    """A load as a job: its state, and in the end its receipt or its problem."""

    load_id: UUID
    table: str = ""
    state: LoadState
    dry_run: bool = False
    progress: Progress = Field(default_factory=Progress)
    receipt: Receipt | None = None
    problem: Problem | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def settled(self) -> bool:
        return self.state in (LoadState.COMPLETED, LoadState.FAILED)


class LoadEvent(Wire):
    """One server-sent event of a load; `data` is its progress, in the end its receipt or problem."""

    state: LoadState
    data: dict[str, Any] = Field(default_factory=dict)


class Reject(Wire):
    """One reason why a row was set aside; a row with two bad values has two of them, with one `row_id`.

    `line` is the physical line where the record begins (1 is the first of the file).
    """

    row_id: int | None = None
    file: str | None = None
    line: int | None = None
    column: str | None = None
    value: Any = None
    reason: str = ""
    row: Any = None


class RejectPage(Page[Reject]):
    """`headers` are those that the rows of CSV and TSV files stand under, by file."""

    headers: dict[str, str] = Field(default_factory=dict)


class DatasetField(Wire):
    name: str
    type: str = ""
    nullable: bool = True
    field_id: int | None = None


class DatasetSchema(Wire):
    fields: list[DatasetField] = Field(default_factory=list)


class Dataset(Wire):
    """A node of the catalog: one of our tables, or something seen elsewhere."""

    id: UUID
    namespace: str
    name: str
    kind: str = "table"
    description: str | None = None
    owner: str | None = None
    tags: list[str] = Field(default_factory=list)
    schema_: DatasetSchema | None = Field(default=None, alias="schema")
    location: str | None = None
    version: int = 0
    snapshot_id: int | None = None
    rows: int | None = None
    size_bytes: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Snapshot(Wire):
    """An Iceberg snapshot; `summary` is its own, with counts as strings of digits."""

    id: int
    at: datetime
    operation: str | None = None
    summary: dict[str, str] = Field(default_factory=dict)

    def count(self, name: str) -> int | None:
        """A count of the summary, as `added-records`; None when it has none."""
        text = self.summary.get(name, "")
        return int(text) if text.isdigit() else None


class DatasetVersion(Wire):
    """One version of a dataset: what kind of change made it, and when."""

    version: int
    kind: str = ""
    changed_at: datetime | None = None
    changed_by: str | None = None
    schema_: DatasetSchema | None = Field(default=None, alias="schema")
    snapshot_id: int | None = None
    snapshot: Snapshot | None = None


class ColumnChange(Wire):
    """A column in both versions, found by its field id: so a renamed one is one change. `what` names what changed."""

    before: DatasetField
    after: DatasetField
    what: list[str] = Field(default_factory=list)


class SchemaDiff(Wire):
    """What changed between two versions."""

    from_version: int
    to_version: int
    added: list[DatasetField] = Field(default_factory=list)
    removed: list[DatasetField] = Field(default_factory=list)
    changed: list[ColumnChange] = Field(default_factory=list)


class SearchResults(Wire):
    items: list[Dataset] = Field(default_factory=list)
    total: int | None = None
    next: str | None = None


class LineageNode(Wire):
    id: str
    type: str
    namespace: str
    name: str


class LineageEdge(Wire):
    from_: str = Field(alias="from")
    to: str


class LineageGraph(Wire):
    """Datasets and jobs; an edge points the way the data flows. `truncated`: the depth or node budget cut it."""

    nodes: list[LineageNode] = Field(default_factory=list)
    edges: list[LineageEdge] = Field(default_factory=list)
    truncated: bool = False


class PartProblem(Problem):
    """Why an overview is without one of its parts: `dataset`, `loads` or `lineage`."""

    part: str = ""


class Overview(Wire):
    """A table at a glance; a part that could not be had is None and `errors` says why."""

    table: str
    dataset: Dataset | None = None
    loads: Any = None
    lineage: LineageGraph | None = None
    errors: list[PartProblem] = Field(default_factory=list)


class Key(Wire):
    """An API key without its secret."""

    id: str
    name: str = ""
    scopes: list[str] = Field(default_factory=list)
    prefix: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class NewKey(Key):
    """A key as it was created: `key` is shown this once and can't be read again."""

    key: str


class Token(Wire):
    """OAuth's answer (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: int = 0
    refresh_token: str | None = None
    scope: str | None = None


class EventGroup(Wire):
    """A consumer group of the event log: everything up to `position` has had its effect."""

    group: str
    topics: list[str] = Field(default_factory=list)
    position: int
    lag: int
    attempts: int = 0
    dead_letters: int = 0
    updated_at: datetime | None = None


class EventGroups(Wire):
    """The groups, and `head`, the last position of the log."""

    items: list[EventGroup] = Field(default_factory=list)
    head: int


class LoggedEvent(Wire):
    """An event as it was published; `data` has the shape of its type."""

    position: int
    id: UUID
    topic: str
    type: str
    key: str
    source: str
    time: datetime
    traceparent: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class LoggedEvents(Wire):
    """Events, oldest first; give `after` back to read on."""

    items: list[LoggedEvent] = Field(default_factory=list)
    after: int


class Offsets(Wire):
    """Where sent rows are in their stream's topic, the last included."""

    partition: int
    first: int
    last: int


class Accepted(Wire):
    """Rows that the brokers have: none of them will be lost, and each will be in the table once."""

    table: str
    topic: str = ""
    rows: int
    offsets: list[Offsets] = Field(default_factory=list)
    trace_id: str | None = None


class PartitionState(Wire):
    partition: int
    committed: int | None = None
    end: int
    lag: int


class StreamStatus(Wire):
    """How far a table lags behind its stream, and what holds it up (`failure`), if anything does."""

    table: str
    topic: str
    rejects_topic: str = ""
    on_new_column: str = "evolve"
    failure: Problem | None = None
    committed_at: datetime | None = None
    partitions: list[PartitionState] = Field(default_factory=list)
    lag: int = 0
    rejects: int = 0


class StreamedRow(Wire):
    """A row as it arrived at the brokers; `row` is None when it is no JSON, and `unreadable` its base64."""

    partition: int
    offset: int
    time_ms: int
    row: Any = None
    unreadable: str | None = None


class Replayed(Wire):
    """The group goes on after `position`."""

    group: str
    position: int


class DeadLetter(Wire):
    """An event that a group gave up on."""

    id: int
    group: str
    event: LoggedEvent
    reason: str
    attempts: int
    failed_at: datetime
    replay_requested_at: datetime | None = None


class DeadLetters(Wire):
    """Newest first; give `before` back for the next page."""

    items: list[DeadLetter] = Field(default_factory=list)
    before: int | None = None


class ReplayRequested(Wire):
    """How many dead letters the group will be handed again."""

    requested: int
