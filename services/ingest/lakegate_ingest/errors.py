"""Every problem that ingest answers.

Problem
├── BodyError                   what arrived can't be taken
│   ├── UnsupportedEncoding     415 Content-Encoding that is not gzip or zstd
│   ├── UnsupportedMediaType    415 a declared type that no format has
│   ├── CorruptEncoding         422 truncated or damaged gzip, zstd
│   ├── BadMultipart            422 no boundary, cut off, no file in it
│   ├── BadFileName             422
│   ├── BodyTooLarge            413 over the limit, by Content-Length or while reading
│   ├── DecompressionBomb       413 ratio or decompressed size
│   ├── TooManyFiles            413
│   └── TooSlow                 408 below the minimum rate
├── ClientClosed                499 recorded only: nobody is there to read it
├── SpoolFull                   507 no space left, or the quota reached while reading
├── SpoolBusy, QueueFull        503 before the body is read
├── UnreadableData              422 the engine's verdict on a whole file (empty, binary, truncated Parquet, …)
├── BadParameter, BadTableName  422
├── StoreRequired               409 presigned URLs without an object store
├── UploadNotFound 404, UploadMissing 409   source= of a load
├── IdempotencyKeyReused 422, IdempotencyKeyRunning 409, BadIdempotencyKey 422
├── LoadInterrupted             503 the process died and the spool is gone: repeat the load
├── LoadCancelled, TooLateToCancel   409 DELETE of a load
├── WorkerUnavailable           503 a load too large for this process, and no worker took it in time
├── LoadNotFound, TableNotFound, SnapshotNotFound  404
├── RejectsUnreadable           409 a file of rejected rows that somebody deleted or damaged
├── BadCursor, BadRowFilter, UnknownColumn         422
├── FileOutsideTable            422 metadata that names a file out of the tenant's folder
├── TableDamaged 409
│   ├── TableFileMissing        metadata, a manifest or a data file that somebody deleted
│   └── TableFileUnreadable     one that is there and damaged, or of a kind that is not read here
├── TooManyStreams              503
├── RowsLate                    503 a download that found no row to begin with in time
├── CatalogRefused              the catalog said no; its message, 403, 404, 409 or 422
├── StoreUnavailable            503 the warehouse's object store is away
├── CatalogUnavailable          503 not reached, or its outcome not settled in time
├── CommitConflict              409 lost the race every time
├── SchemaConflict              422 on_new_column=reject, or a table whose schema the file does not fit
├── DelegationExpired           401 the load outlived what its caller delegated
└── StreamProblem               nothing of the request was taken, but for the third
    ├── StreamsOff              501 this installation has no Kafka
    ├── StreamBusy              503 too much is under way
    ├── Unacknowledged          503 the brokers did not confirm in time: the rows may arrive or not
    ├── BadRows                 422 `errors` points at each
    ├── TooManyRows             413
    ├── StreamNotFound          404
    ├── StreamTopicGone         409 somebody has deleted the topic
    ├── StreamTopicRecreated    409 what the table holds is of another topic of this name
    └── BadStreamSchema         422 an Avro schema that can't be used
"""

from __future__ import annotations

from lakegate_chassis.problems import Problem


class BodyError(Problem):
    """What arrived can't be taken; nothing was loaded."""


class UnsupportedEncoding(BodyError):
    slug, title, status = "unsupported-encoding", "Content-Encoding not supported", 415


class UnsupportedMediaType(BodyError):
    slug, title, status = "unsupported-media-type", "Content-Type not supported", 415


class CorruptEncoding(BodyError):
    slug, title, status = "corrupt-encoding", "Compressed body is damaged or cut off", 422


class BadMultipart(BodyError):
    slug, title, status = "bad-multipart", "Multipart body can't be read", 422


class BadFileName(BodyError):
    slug, title, status = "bad-file-name", "File name can't be used", 422


class BodyTooLarge(BodyError):
    slug, title, status = "body-too-large", "Body is larger than the limit", 413


class DecompressionBomb(BodyError):
    slug, title, status = "decompression-bomb", "Body decompresses to more than the limit", 413


class TooManyFiles(BodyError):
    slug, title, status = "too-many-files", "Too many files in one load", 413


class TooSlow(BodyError):
    slug, title, status = "upload-too-slow", "Upload slower than the minimum rate", 408


class ClientClosed(BodyError):
    slug, title, status = "client-closed", "Client closed the connection", 499


class SpoolFull(Problem):
    slug, title, status = "spool-full", "No space left to receive the load", 507


class Retriable(Problem):
    """503 with Retry-After: nothing was read and nothing begun."""

    status = 503

    def __init__(self, detail: str, *, retry_after: int = 5) -> None:
        super().__init__(detail, headers={"retry-after": str(retry_after)})


class SpoolBusy(Retriable):
    slug, title = "spool-busy", "Spool is in use up to its quota"


class QueueFull(Retriable):
    slug, title = "load-queue-full", "Too many loads are waiting"


class TooManyStreams(Retriable):
    slug, title = "too-many-streams", "Too many downloads, progress streams, tails or sockets at once"


class RowsLate(Retriable):
    slug, title = "rows-late", "No row was found in time"


class CatalogUnavailable(Retriable):
    slug, title = "catalog-unavailable", "Catalog can't be reached"


class StoreUnavailable(Retriable):
    slug, title = "object-store-unavailable", "Object store can't be reached"


class LoadCancelled(Problem):
    """With the slug of the engine's own, for a load that was called off by its sender."""

    slug, title, status = "load-cancelled", "The load was cancelled", 409


class TooLateToCancel(Problem):
    slug, title, status = "load-not-cancellable", "Too late to cancel the load", 409


class WorkerUnavailable(Retriable):
    slug, title = "worker-unavailable", "No worker could run the load"


class LoadInterrupted(Retriable):
    slug, title = "load-interrupted", "Load was interrupted"


class UnreadableData(Problem):
    slug, title, status = "unreadable-file", "The file can't be read", 422


class BadParameter(Problem):
    slug, title, status = "bad-load-parameter", "Parameter can't be used", 422


class BadTableName(Problem):
    slug, title, status = "bad-table-name", "Table name can't be used", 422


class StoreRequired(Problem):
    slug, title, status = "object-store-required", "Not possible without an object store", 409


class UploadNotFound(Problem):
    slug, title, status = "upload-not-found", "Upload not found", 404


class UploadMissing(Problem):
    slug, title, status = "upload-missing", "Nothing, or something else, was uploaded", 409


class BadIdempotencyKey(Problem):
    slug, title, status = "bad-idempotency-key", "Idempotency-Key can't be used", 422


class IdempotencyKeyReused(Problem):
    slug, title, status = "idempotency-key-reused", "Idempotency-Key was used for another request", 422


class IdempotencyKeyRunning(Problem):
    slug, title, status = "idempotency-key-running", "The first request with this Idempotency-Key still runs", 409


class LoadNotFound(Problem):
    slug, title, status = "load-not-found", "Load not found", 404


class RejectsUnreadable(Problem):
    slug, title, status = "rejects-unreadable", "Rejected rows can't be read", 409


class TableNotFound(Problem):
    slug, title, status = "table-not-found", "Table not found", 404


class SnapshotNotFound(Problem):
    slug, title, status = "snapshot-not-found", "Snapshot not found", 404


class BadCursor(Problem):
    slug, title, status = "bad-cursor", "Cursor can't be used", 422


class BadRowFilter(Problem):
    slug, title, status = "bad-row-filter", "Row filter can't be used", 422


class FileOutsideTable(Problem):
    slug, title, status = "file-outside-table", "Table names a file outside its folder", 422


class DeletedByValue(Problem):
    slug, title, status = "deleted-by-value", "Table has equality deletes", 501


class TableDamaged(Problem):
    """No fault of the request, and none that a repetition mends: the table's own state is in the way.

    `MENDING` is what whoever keeps the warehouse can do about a file.
    """

    status = 409
    MENDING = (
        "Restore the file (from a backup, or an older version of the object); or roll the table back to a snapshot "
        "that does not need it, for instance with PyIceberg: "
        "table.manage_snapshots().set_current_snapshot(id).commit()."
    )


class TableFileMissing(TableDamaged):
    slug, title = "table-file-missing", "A file of the table is missing"


class TableFileUnreadable(TableDamaged):
    slug, title = "table-file-unreadable", "A file of the table can't be read"


class UnknownColumn(Problem):
    slug, title, status = "unknown-column", "Column not found", 422


class CatalogRefused(Problem):
    """The catalog's own words; `status` is its status where a caller can do something about it, else 502."""

    slug, title, status = "catalog-refused", "Catalog refused the change", 502

    def __init__(self, detail: str, *, status: int = 502) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]


class CommitConflict(Problem):
    slug, title, status = "commit-conflict", "Other writers were faster every time", 409


class SchemaConflict(Problem):
    slug, title, status = "schema-conflict", "File does not fit the table's schema", 422


class DelegationExpired(Problem):
    slug, title, status = "delegation-expired", "Load outlived its caller's delegation", 401


class StreamProblem(Problem):
    """A request to a stream that was not taken."""


class StreamsOff(StreamProblem):
    slug, title, status = "streams-off", "Event streams need Kafka", 501


class StreamBusy(StreamProblem, Retriable):
    slug, title, status = "stream-busy", "Too many rows are under way", 503


class Unacknowledged(StreamProblem, Retriable):
    slug, title, status = "stream-unacknowledged", "The brokers did not confirm the rows", 503


class BadRows(StreamProblem):
    slug, title, status = "bad-rows", "Rows don't fit the table", 422


class TooManyRows(StreamProblem):
    slug, title, status = "too-many-rows", "Too many rows in one request", 413


class StreamTopicRefused(StreamProblem):
    """By brokers that answer: sending again changes nothing, so no 503."""

    slug, title, status = "stream-topic-refused", "The brokers refuse the stream's topic", 502


class StreamTopicGone(StreamProblem):
    slug, title, status = "stream-topic-gone", "The stream's topic was deleted", 409


class StreamTopicRecreated(StreamProblem):
    """Also what a stream's `failure` says while its worker waits for somebody to decide."""

    slug, title, status = "stream-topic-recreated", "The stream's topic was made anew", 409


class StreamNotFound(StreamProblem):
    slug, title, status = "stream-not-found", "Stream not found", 404


class BadStreamSchema(StreamProblem):
    slug, title, status = "bad-stream-schema", "Avro schema can't be used", 422
