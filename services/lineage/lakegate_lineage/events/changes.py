"""What events change, folded so that a batch touches each row once.

Every change is a merge that commutes and may be repeated: the earlier or later of two times, or a register of
which the greatest wins, compared by the event's time first and by content where times are equal. The SQL in
queries.py merges by the same rules into what is stored. The sum is: state depends on the set of events alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec

from lakegate_lineage import identity
from lakegate_lineage.events.openlineage import (
    Dataset,
    Event,
    Facets,
    digest,
    parse_run_id,
    read_facet,
    storable,
    valid_name,
)

MAX_ERROR_CHARACTERS = 4000
MAX_FIELD_BYTES = 500  # two of them and two UUIDs stand in one index entry
MAX_VERSION_CHARACTERS = 500


class RunState(NamedTuple):
    """The state of a run after some events; the greatest wins. An end beats what is no end whatever the clocks
    said; of two ends the later wins, and at one instant the worse (failed, aborted, completed)."""

    stage: int
    at: datetime
    order: int

    @property
    def name(self) -> str:
        return STATE_NAMES[self.order]


STATE_NAMES = {0: "new", 10: "running", 20: "completed", 21: "aborted", 22: "failed"}
STATE_OF_TYPE = {"START": 10, "RUNNING": 10, "COMPLETE": 20, "ABORT": 21, "FAIL": 22}
ENDED = ("completed", "aborted", "failed")


class _ParentRun(msgspec.Struct, rename="camel"):
    run_id: str


class _Pair(msgspec.Struct):
    namespace: str
    name: str


class _Parent(msgspec.Struct):
    run: _ParentRun
    job: _Pair


class _ErrorMessage(msgspec.Struct):
    message: str


class _Symlinks(msgspec.Struct):
    identifiers: list[_Pair]


class _Version(msgspec.Struct, rename="camel"):
    dataset_version: str


class _InputField(msgspec.Struct):
    namespace: str
    name: str
    field: str


class _ColumnSources(msgspec.Struct, rename="camel"):
    input_fields: list[_InputField]


class _ColumnLineage(msgspec.Struct):
    fields: dict[str, _ColumnSources]


# https://openlineage.io/spec/facets: ParentRunFacet, ErrorMessageRunFacet, SymlinksDatasetFacet,
# DatasetVersionDatasetFacet, ColumnLineageDatasetFacet
_parent = msgspec.json.Decoder(_Parent)
_error = msgspec.json.Decoder(_ErrorMessage)
_symlinks = msgspec.json.Decoder(_Symlinks)
_version = msgspec.json.Decoder(_Version)
_columns = msgspec.json.Decoder(_ColumnLineage)

R = TypeVar("R", bound=tuple[object, ...])


def latest(one: R | None, other: R | None) -> R | None:
    """The greater of two registers; None is less than any."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


@dataclass(slots=True)
class RunChange:
    run_id: UUID
    job_id: UUID
    external_id: str | None
    own: bool
    state: RunState
    first: datetime
    last: datetime
    started: datetime | None = None
    parent: tuple[datetime, UUID] | None = None
    error: tuple[datetime, str] | None = None


@dataclass(slots=True)
class NodeChange:
    """A job, or a dataset; `run` is the key of the job's latest run, or of the latest that wrote the dataset."""

    namespace: str
    name: str
    first: datetime
    last: datetime
    run: tuple[datetime, UUID] | None = None


@dataclass(slots=True)
class Span:
    first: datetime
    last: datetime

    def widen(self, time: datetime) -> None:
        self.first = min(self.first, time)
        self.last = max(self.last, time)


@dataclass(slots=True)
class VersionChange:
    at: datetime
    version: tuple[datetime, str] | None = None


@dataclass(slots=True)
class Changes:
    """Rows to merge, keyed as the tables are. A run is named by its key (identity.run_key)."""

    events: dict[tuple[UUID, datetime, bytes], tuple[str | None, str]] = field(default_factory=dict)
    jobs: dict[UUID, NodeChange] = field(default_factory=dict)
    datasets: dict[UUID, NodeChange] = field(default_factory=dict)
    runs: dict[UUID, RunChange] = field(default_factory=dict)
    edges: dict[tuple[UUID, bool, UUID], Span] = field(default_factory=dict)
    facets: dict[tuple[UUID, str], tuple[datetime, bytes, str]] = field(default_factory=dict)
    versions: dict[tuple[UUID, UUID], VersionChange] = field(default_factory=dict)
    symlinks: dict[tuple[UUID, UUID], tuple[str, str, bool]] = field(default_factory=dict)
    columns: dict[tuple[UUID, str, UUID, str], datetime] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Changes:
        changes = cls()
        for event in events:
            changes.add(event)
        return changes

    def add(self, event: Event) -> None:
        job_id = run = None
        if event.job is not None:
            job_id = identity.job_id(event.job.namespace, event.job.name)
            run = identity.run_key(job_id, event.run_id) if event.run_id else None
            ran = (event.time, run) if run else None
            _merge_node(self.jobs, job_id, event.job.namespace, event.job.name, event.time, ran)
            self._add_facets(job_id, event.job.facets, event.time)
            if run is not None and event.run_id is not None:
                self._add_run(event, run, event.run_id, job_id)
        for dataset in event.inputs:
            self._add_dataset(event, dataset, job_id, None)
        for dataset in event.outputs:
            self._add_dataset(event, dataset, job_id, run, writes=True)
        about: UUID | None = run or job_id
        if event.dataset is not None:
            about = self._add_dataset(event, event.dataset, None, None)
        assert about is not None  # parse_event lets no other shape through
        self.events[about, event.time, event.digest] = (event.type, event.body)

    def _add_run(self, event: Event, key: UUID, run_id: UUID, job_id: UUID) -> None:
        order = STATE_OF_TYPE.get(event.type or "", 0)
        change = RunChange(
            run_id=run_id,
            job_id=job_id,
            external_id=event.external_run_id,
            own=event.own,
            state=RunState(order // 10, event.time, order),
            first=event.time,
            last=event.time,
            started=event.time if event.type == "START" else None,
        )
        facets = (event.run.facets if event.run else None) or {}
        parent = read_facet(facets.get("parent"), _parent)
        if parent is not None and parent.run.run_id and storable(parent.run.run_id):
            parent_id = parse_run_id(parent.run.run_id, parent.job.namespace, parent.job.name)
            change.parent = (event.time, parent_id)
        error = read_facet(facets.get("errorMessage"), _error)
        if error is not None:
            change.error = (event.time, error.message[:MAX_ERROR_CHARACTERS].replace("\x00", ""))
        known = self.runs.get(key)
        self.runs[key] = merge_runs(known, change) if known else change

    def _add_dataset(
        self, event: Event, dataset: Dataset, job_id: UUID | None, run: UUID | None, *, writes: bool = False
    ) -> UUID:
        """`run`: the key of the run that writes it."""
        time = event.time
        dataset_id = identity.dataset_id(dataset.namespace, dataset.name)
        written = (time, run) if run else None
        _merge_node(self.datasets, dataset_id, dataset.namespace, dataset.name, time, written)
        self._add_facets(dataset_id, dataset.facets, time)
        facets = dataset.facets or {}
        if job_id is not None:
            edge = (job_id, writes, dataset_id)
            self.edges.setdefault(edge, Span(time, time)).widen(time)
        if run:
            self._add_version(dataset_id, run, facets, time)
        for name in other_names(dataset):
            alias_id = identity.dataset_id(*name)
            if alias_id != dataset_id:
                _, _, own = self.symlinks.get((dataset_id, alias_id), (*name, False))
                self.symlinks[dataset_id, alias_id] = (*name, own or event.own)
        if columns := read_facet(facets.get("columnLineage"), _columns):
            self._add_columns(dataset_id, columns, time)
        return dataset_id

    def _add_facets(self, owner: UUID, facets: Facets | None, time: datetime) -> None:
        for name, raw in (facets or {}).items():
            body = bytes(raw)
            found = (time, digest(body), body.decode())
            known = self.facets.get((owner, name))
            if known is None or found > known:
                self.facets[owner, name] = found

    def _add_version(self, dataset_id: UUID, run: UUID, facets: Facets, time: datetime) -> None:
        change = self.versions.setdefault((dataset_id, run), VersionChange(time))
        change.at = max(change.at, time)
        version = read_facet(facets.get("version"), _version)
        if version is not None and storable(version.dataset_version):
            change.version = latest(change.version, (time, version.dataset_version[:MAX_VERSION_CHARACTERS]))

    def _add_columns(self, dataset_id: UUID, columns: _ColumnLineage, time: datetime) -> None:
        for name, sources in columns.fields.items():
            if not _valid_field(name):
                continue
            for source in sources.input_fields:
                if _valid_field(source.field) and valid_name(source.namespace, source.name):
                    source_id = identity.dataset_id(source.namespace, source.name)
                    _merge_node(self.datasets, source_id, source.namespace, source.name, time, None)
                    edge = (dataset_id, name, source_id, source.field)
                    self.columns[edge] = max(self.columns.get(edge, time), time)


def other_names(dataset: Dataset) -> list[tuple[str, str]]:
    """The names (namespace, name) that the symlinks facet gives the dataset besides its own."""
    symlinks = read_facet((dataset.facets or {}).get("symlinks"), _symlinks)
    names = [(alias.namespace, alias.name) for alias in symlinks.identifiers] if symlinks else []
    return [name for name in names if valid_name(*name)]


def merge_runs(one: RunChange, other: RunChange) -> RunChange:
    """Both changes of one run as one; the order of the two does not matter."""
    starts = [time for time in (one.started, other.started) if time]
    return RunChange(
        run_id=one.run_id,
        job_id=one.job_id,
        external_id=one.external_id or other.external_id,
        own=one.own or other.own,
        state=max(one.state, other.state),
        first=min(one.first, other.first),
        last=max(one.last, other.last),
        started=min(starts) if starts else None,
        parent=latest(one.parent, other.parent),
        error=latest(one.error, other.error),
    )


def _merge_node(
    nodes: dict[UUID, NodeChange],
    node_id: UUID,
    namespace: str,
    name: str,
    time: datetime,
    run: tuple[datetime, UUID] | None,
) -> None:
    known = nodes.get(node_id)
    if known is None:
        nodes[node_id] = NodeChange(namespace, name, time, time, run)
        return
    known.first = min(known.first, time)
    known.last = max(known.last, time)
    known.run = latest(known.run, run)


def _valid_field(name: str) -> bool:
    return bool(name) and storable(name) and len(name.encode()) <= MAX_FIELD_BYTES
