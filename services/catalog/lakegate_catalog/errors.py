"""What the catalog answers under /v1 when it can't do what was asked (Iceberg's own errors: iceberg/dialect.py).

Problem
├── NotFound 404
│   ├── DatasetNotFound        no dataset has this id or name
│   └── VersionNotFound        the dataset has no such version
├── Conflict 409
│   └── DatasetExists          the (namespace, name) pair is taken
├── PreconditionFailed 412
│   └── DatasetModified        If-Match names another version than the current one
├── InvalidRequest 422
│   └── InvalidCursor          a cursor that is not one of ours
└── Unavailable 503
    └── SearchBehind           the replica has not reached the consistency token in time
"""

from __future__ import annotations

from lakegate_chassis.problems import Conflict, InvalidRequest, NotFound, PreconditionFailed, Unavailable


class DatasetNotFound(NotFound):
    slug, title = "dataset-not-found", "Dataset not found"


class VersionNotFound(NotFound):
    slug, title = "version-not-found", "Version not found"


class DatasetExists(Conflict):
    slug, title = "dataset-exists", "Dataset exists"


class DatasetModified(PreconditionFailed):
    slug, title = "dataset-modified", "Dataset was modified"


class InvalidCursor(InvalidRequest):
    slug, title = "invalid-cursor", "Invalid cursor"


class SearchBehind(Unavailable):
    slug, title = "search-behind", "Search has not caught up yet"
