"""Every problem that the lineage service answers, besides the chassis's own.

Problem
├── InvalidEvent 400       not an OpenLineage event; 400 and not 422, as OpenLineage's clients expect of a bad event
├── UnsupportedEncoding 415
├── EventTooLarge 413      an event, a batch, or what it decompresses to
├── DatasetUnknown 404, ColumnUnknown 404, JobUnknown 404, RunUnknown 404, EventGroupUnknown 404
├── EventGroupInUse 409
└── LineageOverloaded 503  with Retry-After: OpenLineage's clients repeat a 503, and drop the event on a 429
"""

from __future__ import annotations

from lakegate_chassis.problems import NotFound, Problem, TooLarge, Unavailable


class InvalidEvent(Problem):
    slug, title, status = "invalid-event", "Not a valid OpenLineage event", 400


class UnsupportedEncoding(Problem):
    slug, title, status = "unsupported-encoding", "Unsupported content encoding", 415


class EventTooLarge(TooLarge):
    slug, title = "event-too-large", "Event too large"


class DatasetUnknown(NotFound):
    slug, title = "lineage-dataset-unknown", "No lineage for this dataset"


class ColumnUnknown(NotFound):
    slug, title = "lineage-column-unknown", "No lineage for this column"


class JobUnknown(NotFound):
    slug, title = "lineage-job-unknown", "No lineage for this job"


class RunUnknown(NotFound):
    slug, title = "run-unknown", "Unknown run"


class EventGroupUnknown(NotFound):
    slug, title = "event-group-unknown", "Unknown consumer group"


class EventGroupInUse(Problem):
    slug, title, status = "event-group-in-use", "Consumer group in use", 409


class LineageOverloaded(Unavailable):
    slug, title = "lineage-overloaded", "Lineage is busy"
