"""Reading OpenLineage 2-0-2 events: RunEvent, JobEvent and DatasetEvent, told apart by their shape.

Strict where the graph needs it (names, times, run ids), lenient where producers differ: facets are kept as raw
JSON and those of an unknown or broken shape are stored but not interpreted; null stands for an absent list; a
time without an offset is UTC. https://openlineage.io/spec/2-0-2/OpenLineage.json
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec

from lakegate_chassis.problems import FieldError
from lakegate_lineage.errors import InvalidEvent
from lakegate_lineage.identity import external_run_id

# bytes in UTF-8: both stand in one B-tree entry, which PostgreSQL limits to 2,704
MAX_NAMESPACE_BYTES = 512
MAX_NAME_BYTES = 1900
MAX_FACET_NAME_BYTES = 256
MAX_RUN_ID = 512
MAX_AHEAD = timedelta(days=1)  # a later time would win every "latest" until then; clocks are not that wrong
EVENT_TYPES = ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")

# the canonical spelling only: uuid.UUID would also take braces, "urn:uuid:" and 32 hex digits
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
# RFC 3339, but for the offset, whose colon Python's %z leaves out; fromisoformat takes dates alone and weeks, too
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_PATH = re.compile(r" - at `(.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[([^\]]*)\]")

Facets = dict[str, msgspec.Raw]


class Run(msgspec.Struct, rename="camel"):
    run_id: str
    facets: Facets | None = None


class Job(msgspec.Struct):
    namespace: str
    name: str
    facets: Facets | None = None


class Dataset(msgspec.Struct):
    """An input, an output, or the dataset of a DatasetEvent. Input and output facets stay in the stored event."""

    namespace: str
    name: str
    facets: Facets | None = None


class _Event(msgspec.Struct, rename="camel"):
    event_time: str
    producer: str
    event_type: str | None = None
    run: Run | None = None
    job: Job | None = None
    dataset: Dataset | None = None
    inputs: list[Dataset] | None = None
    outputs: list[Dataset] | None = None


class Event(NamedTuple):
    """A checked event. Exactly one of these holds: run and job; job alone; dataset alone. `own`: a service of
    ours published it, so that it is not a caller's word."""

    time: datetime
    type: str | None
    run: Run | None
    run_id: UUID | None
    job: Job | None
    dataset: Dataset | None
    inputs: list[Dataset]
    outputs: list[Dataset]
    body: str
    digest: bytes
    own: bool = False

    @property
    def external_run_id(self) -> str | None:
        """The run's id as it was sent, where that was no UUID."""
        return self.run.run_id if self.run and not _UUID.fullmatch(self.run.run_id) else None


_event = msgspec.json.Decoder(_Event)
_items = msgspec.json.Decoder(list[msgspec.Raw])


def parse_event(body: bytes, *, own: bool = False) -> Event:
    """Read one event. Raises InvalidEvent with a JSON pointer to what is wrong."""
    text = _text(body)
    try:
        found = _event.decode(text)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refuse("", f"The body is no JSON document that can be read: {error}.") from error
    run_id = _check_shape(found)
    return Event(
        time=_time(found.event_time),
        type=_event_type(found.event_type),
        run=found.run,
        run_id=run_id,
        job=found.job,
        dataset=found.dataset,
        inputs=_datasets(found.inputs, "inputs"),
        outputs=_datasets(found.outputs, "outputs"),
        body=text,
        digest=digest(body),
        own=own,
    )


def split_batch(body: bytes) -> list[bytes]:
    """The items of a JSON array, each to be read on its own. Raises InvalidEvent when it is no array."""
    try:
        return [bytes(item) for item in _items.decode(body)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refuse("", f"A batch is a JSON array of OpenLineage events: {error}.") from error


T = TypeVar("T")


def read_facet(raw: msgspec.Raw | None, decoder: msgspec.json.Decoder[T]) -> T | None:
    """A facet in the shape that the spec gives it; None where it is absent, deleted or otherwise shaped."""
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def digest(body: bytes | memoryview) -> bytes:
    """Sixteen bytes that tell two bodies apart."""
    return blake2b(body, digest_size=16).digest()


def parse_run_id(run_id: str, job_namespace: str, job_name: str) -> UUID:
    """The run's UUID. What is no UUID (Airflow's `manual__2026-…`) gets one that depends on the job too,
    since such ids are unique only within their job."""
    if _UUID.fullmatch(run_id):
        return UUID(run_id)
    return external_run_id(job_namespace, job_name, run_id)


def valid_name(namespace: str, name: str) -> bool:
    """Whether a pair found inside a facet can be stored as a node."""
    return not (_name_problem(namespace, MAX_NAMESPACE_BYTES) or _name_problem(name, MAX_NAME_BYTES))


def storable(text: str) -> bool:
    """PostgreSQL's text has no NUL."""
    return "\x00" not in text


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refuse("", f"The body is not UTF-8: byte {error.start} is not valid.") from error


def _check_shape(event: _Event) -> UUID | None:
    if event.job is not None:
        _check_pair(event.job, "/job")
    if event.run is not None:
        if event.job is None:
            raise _refuse("/job", "A RunEvent needs `job` with namespace and name.")
        if not 1 <= len(event.run.run_id) <= MAX_RUN_ID or not storable(event.run.run_id):
            raise _refuse("/run/runId", f"runId has 1 to {MAX_RUN_ID} characters; a UUID is what the spec asks for.")
        _check_facets(event.run.facets, "/run")
        return parse_run_id(event.run.run_id, event.job.namespace, event.job.name)
    if event.dataset is not None:
        if event.job is not None:
            raise _refuse("/dataset", "An event has either `job` (JobEvent) or `dataset` (DatasetEvent), not both.")
        _check_pair(event.dataset, "/dataset")
    elif event.job is None:
        raise _refuse(
            "", "An event needs `run` and `job` (RunEvent), `job` (JobEvent) or `dataset` (DatasetEvent); it has none."
        )
    return None


def _datasets(found: list[Dataset] | None, member: str) -> list[Dataset]:
    for index, dataset in enumerate(found or ()):
        _check_pair(dataset, f"/{member}/{index}")
    return found or []


def _check_pair(found: Job | Dataset, pointer: str) -> None:
    if problem := _name_problem(found.namespace, MAX_NAMESPACE_BYTES):
        raise _refuse(f"{pointer}/namespace", f"The namespace {problem}.")
    if problem := _name_problem(found.name, MAX_NAME_BYTES):
        raise _refuse(f"{pointer}/name", f"The name {problem}.")
    _check_facets(found.facets, pointer)


def _check_facets(facets: Facets | None, pointer: str) -> None:
    for name in facets or ():
        if problem := _name_problem(name, MAX_FACET_NAME_BYTES):
            raise _refuse(f"{pointer}/facets", f"The name of a facet {problem}.")


def _name_problem(text: str, most: int) -> str:
    if not text:
        return "is empty"
    if not storable(text):
        return "contains a NUL character"
    # the length in characters first: it decides nearly always, and costs nothing
    if len(text) * 4 > most and len(text.encode()) > most:
        return f"is longer than {most} bytes"
    return ""


def _event_type(found: str | None) -> str | None:
    if found is None:
        return None
    if found.upper() not in EVENT_TYPES:
        raise _refuse("/eventType", f"eventType is one of {', '.join(EVENT_TYPES)}.")
    return found.upper()


def _time(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text) is None:
            raise ValueError(text)
        time = datetime.fromisoformat(text.upper())
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refuse(
            "/eventTime", "eventTime is an RFC 3339 time with its offset, such as 2026-03-01T12:00:00.123Z."
        ) from None
    if time > (now := datetime.now(UTC)) + MAX_AHEAD:
        raise _refuse(
            "/eventTime",
            f"eventTime may be at most one day ahead of the server's clock, which says {now:%Y-%m-%dT%H:%M:%SZ}; "
            f"{text} was sent.",
        )
    return time


def _invalid(error: msgspec.ValidationError) -> InvalidEvent:
    message = str(error)
    pointer = ""
    if at := _PATH.search(message):
        message = message[: at.start()]
        for name, index in _STEP.findall(at.group(1)):
            pointer += "/" + (name or index or "-")
    return _refuse(pointer, f"{message}.")


def _refuse(pointer: str, detail: str) -> InvalidEvent:
    return InvalidEvent(
        f"{pointer or 'the event'}: {detail}" if pointer else detail,
        errors=[FieldError(detail=detail, pointer=pointer)],
    )
