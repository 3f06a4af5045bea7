"""What ingest reads from the environment: prefix INGEST_, nesting __."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from lakegate_chassis.objectstore import ObjectStoreSettings
from lakegate_chassis.settings import BackendSettings, Section, settings_config

MIB = 1 << 20
GIB = 1 << 30


class SpoolSettings(Section):
    """Where bodies wait until they are committed. `quota_bytes` bounds the sum of all folders of this process."""

    dir: Path = Field(
        default=Path(".lakegate/spool"),
        description="folder of the spool: one folder a load, on a local disk; one process at a time",
    )
    quota_bytes: int = Field(
        default=64 * GIB, gt=0, description="bytes of received files at most, of all loads of this process"
    )
    reuse_bytes: int = Field(
        default=2 * GIB,
        ge=0,
        description="bytes of files of loads that have ended, at most, which are kept to be written over by the next: "
        "memory that the kernel has at hand is several times faster than fresh one; never more than a quarter of the "
        "quota, and nothing while the disk has less than four times as much free",
    )
    remote_bytes: int = Field(
        default=64 * MIB,
        ge=0,
        description="files from this size on are spooled in the warehouse's object store too, where there is one, so "
        "that another process can go on with them; those of a load with `Prefer: wait=0` always are",
    )


class BodySettings(Section):
    """Limits of one upload; sizes in bytes, as sent (`max_bytes`) and decompressed (`max_decoded_bytes`)."""

    max_bytes: int = Field(default=16 * GIB, gt=0, description="size of a body at most, as it is sent")
    max_decoded_bytes: int = Field(default=32 * GIB, gt=0, description="size of a file at most, decompressed")
    # Text compresses 5 to 30 times, a log of equal lines some 200 times, a bomb 1,000 times and more.
    max_ratio: int = Field(
        default=500, gt=1, description="a body that decompresses to more than so many times its size is a bomb"
    )
    max_files: int = Field(default=100, gt=0, description="files of one multipart load")
    max_name_chars: int = Field(default=255, gt=0, description="characters of a file name")
    min_bytes_per_second: int = Field(
        default=512, ge=0, description="an upload slower than this over a whole window is ended with 408; 0: no minimum"
    )
    rate_window_seconds: float = Field(default=15.0, gt=0, description="window of the minimum rate")
    discard_bytes: int = Field(
        default=16 * MIB,
        ge=0,
        description="after a refusal in mid-body so much is read and dropped, so that the client sees the answer",
    )
    discard_seconds: float = Field(default=5.0, ge=0, description="and for so long at most")


class JobSettings(Section):
    """Loads as jobs: `workers` engine threads at once, `queue` loads accepted (uploading and waiting) beyond them."""

    workers: int = Field(
        default=1, ge=1, le=16, description="loads that the engine reads at once; each takes ENGINE__MEMORY_BYTES"
    )
    queue: int = Field(
        default=64, ge=1, description="loads accepted beyond those being read: uploading, waiting or committing"
    )
    max_wait_seconds: int = Field(
        default=30,
        ge=0,
        le=30,
        description="how long a POST waits for its receipt, without and at most with `Prefer: wait=N`",
    )
    heartbeat_seconds: float = Field(
        default=5.0, gt=0, description="how often this process renews the leases of its loads"
    )
    lease_seconds: float = Field(
        default=30.0, gt=0, description="loads of a process that has not renewed them for so long are taken over"
    )
    sweep_seconds: float = Field(
        default=15.0, gt=0, description="how often dead owners, stray folders and files to delete are looked for"
    )
    max_attempts: int = Field(
        default=3, ge=1, description="readings of one load that may end with the process before it is given up"
    )
    sse_heartbeat_seconds: float = Field(
        default=10.0, gt=0, description="a comment keeps a silent progress stream open"
    )
    sse_max_seconds: float = Field(
        default=600.0, gt=0, description="a progress stream is ended after so long; clients connect again by themselves"
    )
    sse_max_clients: int = Field(default=256, ge=1, description="progress streams open at once")
    sse_max_clients_per_tenant: int = Field(default=128, ge=1, description="of these, at most so many of one tenant")
    idempotency_hours: int = Field(default=24, ge=1, description="how long an Idempotency-Key is remembered")


class WorkerSettings(Section):
    """Loads that are too large for the process that serves the API are run by a worker: `python -m
    lakegate_ingest.worker`, in a process of its own, or in a pod of its own as a Kubernetes Job."""

    mode: Literal["off", "subprocess", "kubernetes"] = Field(
        default="off", description="where loads from `least_bytes` on run: in this process, in another, or in a Job"
    )
    least_bytes: int = Field(default=1 * GIB, ge=1, description="size of a load's files, decompressed, from which on")
    at_once: int = Field(default=2, ge=1, le=64, description="workers that this process has running at once")
    start_seconds: float = Field(
        default=180.0, gt=0, description="a load that no worker has taken by then fails with 503 and says why"
    )
    beat_seconds: float = Field(
        default=1.0, gt=0, description="how often a worker tells its progress, and hears that its load was called off"
    )
    stop_seconds: float = Field(
        default=20.0, gt=0, description="a worker that is told to stop, and has not by then, is killed (subprocess)"
    )
    job_file: Path | None = Field(
        default=None, description="kubernetes: the Job and its sizes as JSON, a mounted ConfigMap of the chart"
    )
    api_url: str = Field(default="https://kubernetes.default.svc", description="kubernetes: the API server")
    token_file: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="kubernetes: the ServiceAccount's token; read for each request, since it is renewed",
    )
    ca_file: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"),
        description="kubernetes: authorities (PEM) of the API server",
    )

    def is_large(self, size_bytes: int) -> bool:
        return self.mode != "off" and size_bytes >= self.least_bytes

    @model_validator(mode="after")
    def _has_its_job(self) -> WorkerSettings:
        if self.mode == "kubernetes" and self.job_file is None:
            raise ValueError("mode kubernetes needs job_file, which says what the Job is like")
        return self


class EngineSettings(Section):
    """Bounds of the reading engine; the memory limit is DuckDB's own, the rest of the process comes on top."""

    memory_bytes: int = Field(
        default=180 * MIB, ge=64 * MIB, description="DuckDB's own limit; about 100 MB of the process come on top"
    )
    threads: int = Field(default=2, ge=1, description="threads of one reading")
    early_bytes: int = Field(
        default=24 * MIB,
        ge=0,
        description="a body is read while it arrives once so much of it is there, if an engine slot is free",
    )
    early_bytes_per_second: int = Field(
        default=20 * MIB,
        ge=0,
        description="and only if it came at least this fast: a slow one would hold the slot for nothing",
    )


class CommitSettings(Section):
    """Bounds of one commit against the catalog, and when a file that nothing names counts as an orphan."""

    timeout_seconds: float = Field(default=20.0, gt=0, description="one request to the catalog")
    attempts: int = Field(default=12, ge=1, description="commits tried before a load gives up against faster writers")
    settle_seconds: float = Field(
        default=60.0,
        gt=0,
        description="how long one attempt waits for a catalog that is away; the load is then taken up again. After a "
        "commit whose answer was lost, for so long the table is asked for the snapshot before the commit is repeated",
    )
    backoff_seconds: float = Field(
        default=0.05, gt=0, description="first pause after a lost race; doubles, with jitter"
    )
    orphan_age_seconds: float = Field(
        default=3600.0,
        ge=0,
        description="when the files of a failed load are deleted, after checking that no snapshot has them",
    )


class QuarantineSettings(Section):
    """Rejected rows go to `<location>/<tenant>/_quarantine/<load id>/`; the default is the warehouse's own folder."""

    location: str = Field(
        default="file:///var/lib/lakegate/warehouse",
        description="warehouse URL; rejected rows go to `<location>/<tenant>/_quarantine/<load id>/`",
    )


class RetentionSettings(Section):
    """How long what tells of a load is kept; the table's own rows and snapshots stay."""

    load_days: float = Field(
        default=365,
        gt=0,
        le=36_500,
        description="loads that have ended, with receipt and rejected rows: replay what you want to keep before",
    )


class UploadSettings(Section):
    """Files that clients send straight to the object store, by presigned URL."""

    url_seconds: int = Field(default=900, ge=1, le=43_200, description="how long a presigned URL can be used")
    kept_hours: int = Field(default=24, ge=1, description="when an uploaded file that nobody loaded is deleted")


class RowsSettings(Section):
    """Bounds of a streamed download of rows."""

    max_streams: int = Field(default=8, ge=1, description="downloads of rows at once")
    max_streams_per_tenant: int = Field(default=6, ge=1, description="of these, at most so many of one tenant")
    begin_seconds: float = Field(
        default=120.0, gt=0, description="a download that has found no row to begin with by then is ended with 503"
    )
    batch_rows: int = Field(
        default=8192,
        ge=1,
        description="rows of one chunk of a download at most; large ones come in fewer, of some 8 MiB",
    )


class StreamSettings(Section):
    """Event streams, which are there when KAFKA__BOOTSTRAP is set: rows to Kafka, and from Kafka to tables."""

    worker: bool = Field(
        default=True,
        description="whether this process commits streams to tables, too; off where "
        "`python -m lakegate_ingest.streams` runs for it",
    )
    group: str = Field(
        default="lakegate-streams",
        min_length=1,
        max_length=200,
        description="consumer group of the workers; the same for all of them, so that each has its share",
    )
    commit_rows: int = Field(default=200_000, ge=1, description="rows of a table that are committed without waiting")
    commit_bytes: int = Field(
        default=128 * MIB, ge=1024, description="bytes of a table's rows that are committed without waiting"
    )
    commit_seconds: float = Field(
        default=5.0, gt=0, description="how old the oldest row of a table may be before it is committed"
    )
    held_bytes: int = Field(
        default=384 * MIB, ge=1024, description="bytes of rows that one worker holds of all its streams; then it waits"
    )
    commits_at_once: int = Field(default=2, ge=1, le=16, description="tables that one worker reads rows of at once")
    discover_seconds: float = Field(default=2.0, gt=0, description="how often the worker looks for new streams")
    max_rows: int = Field(default=10_000, ge=1, le=100_000, description="rows of one request or message")
    max_body_bytes: int = Field(default=16 * MIB, ge=1024, description="size of one request, decompressed")
    max_row_bytes: int = Field(default=1 * MIB, ge=64, description="size of one row")
    max_in_flight_bytes: int = Field(
        default=64 * MIB,
        ge=1024,
        description="bytes received and waiting for the brokers' acknowledgement; more are answered 503",
    )
    max_in_flight_bytes_per_tenant: int = Field(
        default=32 * MIB, ge=1024, description="of these, at most so many of one tenant"
    )
    ack_seconds: float = Field(
        default=10.0, gt=0, description="how long a request waits for the brokers' acknowledgement; then 503"
    )
    schema_seconds: float = Field(default=3.0, ge=0, description="how long a table's schema is believed at the door")
    judges: int = Field(default=1, ge=1, le=16, description="requests whose rows the engine judges at once")
    transactions: int = Field(
        default=4, ge=1, le=64, description="requests with an Idempotency-Key that are sent at once; others wait"
    )
    max_sockets: int = Field(default=256, ge=1, description="WebSocket producers at once")
    max_sockets_per_tenant: int = Field(default=128, ge=1, description="of these, at most so many of one tenant")
    max_tails: int = Field(default=64, ge=1, description="tails (SSE) at once")
    max_tails_per_tenant: int = Field(default=32, ge=1, description="of these, at most so many of one tenant")
    tail_seconds: float = Field(
        default=600.0, gt=0, description="a tail is ended after so long; clients connect again by themselves"
    )
    heartbeat_seconds: float = Field(default=10.0, gt=0, description="a comment keeps a silent tail open")
    lineage_seconds: float = Field(
        default=60.0,
        gt=0,
        description="a RUNNING event at most so often for a stream; after as long without rows, COMPLETE",
    )
    lag_seconds: float = Field(default=2.0, gt=0, description="how often lag and freshness are measured")
    named_streams: int = Field(
        default=100, ge=0, le=1000, description="streams that have metrics of their own; the others share one label"
    )
    orphan_seconds: float = Field(
        default=600.0, gt=0, description="files of a commit that came to nothing are deleted after so long"
    )


class IngestSettings(BackendSettings):
    """Settings of the ingest service."""

    model_config = settings_config("INGEST_")

    port: int = Field(default=8082, description="port of the API")
    management_port: int = Field(default=9082, description="port for /metrics and /loglevel")
    catalog_url: str = Field(default="http://127.0.0.1:8081", description="base URL of the catalog")
    token_exchange_url: str = Field(
        default="http://127.0.0.1:9080/internal/token",
        description="where delegations are exchanged for tokens (RFC 8693), at the gateway's management port",
    )
    spool: SpoolSettings = SpoolSettings()
    body: BodySettings = BodySettings()
    job: JobSettings = JobSettings()
    worker: WorkerSettings = WorkerSettings()
    engine: EngineSettings = EngineSettings()
    commit: CommitSettings = CommitSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    retention: RetentionSettings = RetentionSettings()
    upload: UploadSettings = UploadSettings()
    objects: ObjectStoreSettings = ObjectStoreSettings()
    rows: RowsSettings = RowsSettings()
    streams: StreamSettings = StreamSettings()
