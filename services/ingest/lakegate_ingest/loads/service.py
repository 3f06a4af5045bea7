"""Accepting a load: the checks that need no body first, then the body, then the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg

from lakegate_chassis import context
from lakegate_chassis.auth import require
from lakegate_chassis.logs import log
from lakegate_chassis.postgres import tenant_transaction
from lakegate_chassis.problems import Problem, unforeseen
from lakegate_contracts.identity import Principal, Scope
from lakegate_contracts.names import TableName
from lakegate_contracts.receipts import Receipt
from lakegate_ingest import engine
from lakegate_ingest.errors import LoadNotFound, TooLateToCancel, UploadMissing, UploadNotFound
from lakegate_ingest.loads import idempotency, queries
from lakegate_ingest.loads.copies import Copies, is_copied
from lakegate_ingest.loads.jobs import Jobs
from lakegate_ingest.loads.live import LiveLoad, LiveLoads
from lakegate_ingest.loads.outcome import Outcomes
from lakegate_ingest.loads.pipeline import Pipeline
from lakegate_ingest.loads.queries import LoadRow, NewLoad
from lakegate_ingest.loads.reading import engine_problem
from lakegate_ingest.loads.received import opener_for, stored, stored_files
from lakegate_ingest.loads.schemas import Load, LoadOptions, Progress
from lakegate_ingest.metrics import FAILURES, LOADS, PHASE_SECONDS, RECEIVED_BYTES
from lakegate_ingest.settings import IngestSettings
from lakegate_ingest.spool.folders import Spool
from lakegate_ingest.spool.receiving import BodyHeaders, ReceivedBody, check_length, fingerprint_body, receive_body
from lakegate_ingest.spool.sinks import FileSink
from lakegate_ingest.uploads.schemas import DownloadPage
from lakegate_ingest.uploads.service import Uploads


@dataclass(frozen=True)
class LoadRequest:
    """A POST to a table, checked but not yet read."""

    principal: Principal
    table: TableName
    options: LoadOptions
    body: BodyHeaders
    delegation: str
    idempotency_key: str | None
    # the caller will not wait: what it is told has to outlive this process
    asynchronous: bool = False


@dataclass(frozen=True)
class Replayed:
    receipt: Receipt


class LoadService:
    """The rules of accepting, finding and listing loads."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        spool: Spool,
        live: LiveLoads,
        jobs: Jobs,
        pipeline: Pipeline,
        outcomes: Outcomes,
        settings: IngestSettings,
        executor: Executor,
        owner: str,
        copies: Copies,
        uploads: Uploads,
    ) -> None:
        self._pool = pool
        self._spool = spool
        self._live = live
        self._jobs = jobs
        self._pipeline = pipeline
        self._outcomes = outcomes
        self._settings = settings
        self._executor = executor
        self._owner = owner
        self._copies = copies
        self._uploads = uploads

    async def accept_upload(self, request: LoadRequest, upload_id: UUID) -> LiveLoad | Replayed:
        """Queue a load whose body is an uploaded file; a worker receives it. Raises Problem."""
        # all that there is to say of the body is which upload it is, and that is one of the options
        request = replace(request, body=BodyHeaders(None, "", None, None))
        try:
            try:
                upload = await self._uploads.take(request.principal, upload_id, request.table.namespace)
            except (UploadNotFound, UploadMissing):
                # an upload goes when it is loaded, and the answer to that may have been lost
                replayed = await self._completed(request)
                if replayed is None:
                    raise
                return replayed
            self._spool.check_room(upload.size_bytes or 0)
            live, first = await self._admit(request)
            live.size_bytes, live.shared = upload.size_bytes or 0, True
        except Problem as problem:
            FAILURES.labels(problem.slug).inc()
            raise
        if first is not None:
            if first.receipt is None:
                raise idempotency.reused(first)
            LOADS.labels("replayed").inc()
            return Replayed(first.receipt)
        self._jobs.submit(live)
        return live

    async def _completed(self, request: LoadRequest) -> Replayed | None:
        if request.idempotency_key is None:
            return None
        async with tenant_transaction(self._pool, request.principal.tenant) as connection:
            first = await idempotency.completed(
                connection, table=request.table, key=request.idempotency_key, options=request.options,
                body=request.body,
            )  # fmt: skip
        if first is None or first.receipt is None:
            return None
        LOADS.labels("replayed").inc()
        return Replayed(first.receipt)

    async def accept(self, request: LoadRequest, stream: AsyncIterator[bytes]) -> LiveLoad | Replayed:
        """Receive the body and queue the load; its outcome is awaited on the LiveLoad.

        Raises Problem. Refusals that need no body (size, queue, spool, a key that runs) come before one is read.
        """
        try:
            check_length(request.body.content_length, self._settings.body)
            self._spool.check_room(request.body.content_length or 0)
            live, first = await self._admit(request)
            if first is not None:
                return await self._replay(first, request, stream)
        except Problem as problem:
            FAILURES.labels(problem.slug).inc()
            raise
        return await self._receive(live, request, stream)

    async def _admit(self, request: LoadRequest) -> tuple[LiveLoad, LoadRow | None]:
        """A place among the loads, and the row; or the load that its key belongs to. Raises Problem."""
        load_id = uuid4()
        live = self._live.admit(load_id, request.principal.tenant)
        registered = False
        try:
            first = await self._register(load_id, request)
            registered = first is None
        finally:
            if not registered:
                self._live.end(load_id)
        return live, first

    async def _register(self, load_id: UUID, request: LoadRequest) -> LoadRow | None:
        info = context.current()
        tenant = request.principal.tenant
        new = NewLoad(
            load_id=load_id, tenant=tenant, table=request.table, options=request.options,
            subject=request.principal.subject, delegation=request.delegation, request_id=info.request_id,
            trace_id=info.trace_id, traceparent=info.traceparent, run_id=uuid4(),
        )  # fmt: skip
        async with tenant_transaction(self._pool, tenant) as connection:
            if request.idempotency_key is not None:
                first = await idempotency.claim(
                    connection, tenant=tenant, table=request.table, key=request.idempotency_key, load_id=load_id,
                    options=request.options, body=request.body, hours=self._settings.job.idempotency_hours,
                )  # fmt: skip
                if first is not None:
                    return first
            await queries.insert_load(connection, new, self._owner)
        return None

    async def _replay(self, first: LoadRow, request: LoadRequest, stream: AsyncIterator[bytes]) -> Replayed:
        fingerprint = await fingerprint_body(stream, request.body, limits=self._settings.body, executor=self._executor)
        if fingerprint != first.fingerprint or first.receipt is None:
            raise idempotency.reused(first)
        LOADS.labels("replayed").inc()
        return Replayed(first.receipt)

    async def _receive(self, live: LiveLoad, request: LoadRequest, stream: AsyncIterator[bytes]) -> LiveLoad:
        began = time.perf_counter()
        try:
            body = await self._spooled(live, request, stream)
            files = await asyncio.get_running_loop().run_in_executor(self._executor, stored_files, body)
            if live.early is not None:
                live.early.finish(files[0])
            live.size_bytes = sum(file.size_bytes for file in files)
            always = request.asynchronous or self._settings.worker.is_large(live.size_bytes)
            files = await self._copies.keep(
                live.load_id, live.tenant, files, self._spool.path(live.load_id), always=always
            )
            live.shared = is_copied(files)
            async with tenant_transaction(self._pool, live.tenant) as connection:
                await queries.set_received(
                    connection, live.load_id, files=files, fingerprint=body.fingerprint,
                    received_bytes=body.received_bytes,
                )  # fmt: skip
        except engine.EngineError as error:
            unreadable = engine_problem(error)
            await self._give_up(live, unreadable)
            raise unreadable from error
        except Problem as problem:
            await self._give_up(live, problem)
            raise
        except Exception as error:
            # Whatever it was, the load must not stay "receiving" for as long as this process lives.
            failure = unforeseen(error)
            await self._give_up(live, failure)
            raise failure from error
        RECEIVED_BYTES.inc(body.received_bytes)
        live.received_at = time.perf_counter()
        PHASE_SECONDS.labels("receive").observe(live.received_at - began)
        live.progress = live.progress.model_copy(update={"bytes_received": body.received_bytes})
        live.state = "queued"
        self._jobs.submit(live)
        return live

    async def _spooled(self, live: LiveLoad, request: LoadRequest, stream: AsyncIterator[bytes]) -> ReceivedBody:
        folder = await asyncio.to_thread(self._spool.create, live.load_id)
        loop = asyncio.get_running_loop()
        began = loop.time()
        settings = self._settings.engine

        def on_batch(received: int, sink: FileSink | None) -> None:
            live.progress = live.progress.model_copy(update={"bytes_received": received})
            if sink is not None and received >= self._settings.spool.remote_bytes:
                self._copies.follow(live.load_id, live.tenant, sink)
            if live.early is not None or sink is None or received < settings.early_bytes:
                return
            if self._settings.worker.is_large(request.body.content_length or 0):
                return  # a worker reads it
            if received < settings.early_bytes_per_second * (loop.time() - began):
                return
            file = sink.begun
            if file is not None:
                live.early = self._pipeline.read_early(
                    live,
                    request.table,
                    request.delegation,
                    request.options,
                    stored(file),
                    expected_bytes=request.body.content_length if sink.as_sent else None,
                )
            if live.early is not None:
                sink.follow(live.early.arrival.advance)

        return await receive_body(
            stream, request.body, spool=self._spool, load_id=live.load_id, folder=folder,
            limits=self._settings.body, opener=opener_for(request.options), executor=self._executor,
            on_batch=on_batch,
        )  # fmt: skip

    async def _give_up(self, live: LiveLoad, problem: Problem) -> None:
        problem.extensions.setdefault("load_id", str(live.load_id))
        await self._copies.abort(live.load_id)
        if live.early is not None:
            live.early.abort()
            await live.early.settled()
        if await self._jobs.fail(live, problem):
            await asyncio.to_thread(self._spool.remove, live.load_id)
            await self._copies.remove(live.load_id, live.tenant)
            self._live.end(live.load_id)

    async def get(self, principal: Principal, load_id: UUID) -> Load:
        """Raises LoadNotFound, for a load of a namespace that the caller may not see as well."""
        return self.describe(await self.row(principal, load_id))

    async def row(self, principal: Principal, load_id: UUID) -> LoadRow:
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            load = await queries.get_load(connection, load_id)
        if load is None or not may_see(principal, load.table.namespace):
            raise LoadNotFound(f"No load has the id {load_id}. GET /v1/loads lists yours.")
        return load

    async def call_off(self, principal: Principal, load_id: UUID) -> Load:
        """End a load that is not committing yet, wherever it runs. Raises LoadNotFound, TooLateToCancel."""
        load = await self.row(principal, load_id)
        require(principal, Scope.LOADS_WRITE, load.table.namespace)
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            if not await queries.call_off(connection, load_id):
                raise TooLateToCancel("It is being committed, or has ended: its receipt or its problem says how.")
        live = self._live.get(load_id)
        if live is not None:
            live.call_off()
        await self._jobs.hasten(load_id)
        log.info("load_called_off", load_id=str(load_id), state=load.state.value)
        return self.describe(await self.row(principal, load_id))

    async def newest(
        self,
        principal: Principal,
        *,
        table: TableName | None,
        state: str | None,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[LoadRow]:
        """Newest first; the caller drops those that it may not show."""
        async with tenant_transaction(self._pool, principal.tenant) as connection:
            return await queries.list_loads(connection, table=table, state=state, before=before, limit=limit)

    async def quarantine(self, load: LoadRow) -> list[tuple[int, str]]:
        async with tenant_transaction(self._pool, load.tenant) as connection:
            return await queries.quarantine_files(connection, load.load_id)

    async def downloads(self, load: LoadRow) -> DownloadPage:
        """Presigned URLs of a load's rejected rows. Raises StoreRequired, StoreUnavailable."""
        async with tenant_transaction(self._pool, load.tenant) as connection:
            files = await queries.quarantine_sizes(connection, load.load_id)
        return await self._uploads.downloads(files)

    def live(self, load_id: UUID) -> LiveLoad | None:
        return self._live.get(load_id)

    def describe(self, load: LoadRow) -> Load:
        live = self._live.get(load.load_id)
        if live is not None:
            progress = live.progress
        elif load.progress is not None:
            progress = load.progress
        else:
            rows = load.receipt.rows_in if load.receipt else 0
            progress = Progress(bytes_received=load.received_bytes, rows=rows)
        return Load(
            load_id=load.load_id, table=str(load.table), state=load.state, dry_run=load.options.dry_run,
            progress=progress, receipt=load.receipt, problem=load.problem, subject=load.subject, run_id=load.run_id,
            request_id=load.request_id, trace_id=load.trace_id, created_at=load.created_at,
            started_at=load.started_at, finished_at=load.finished_at,
        )  # fmt: skip


def may_see(principal: Principal, namespace: str) -> bool:
    """A load is seen by those who may write to its namespace, and by those who may read there."""
    return principal.allows(Scope.LOADS_WRITE, namespace) or principal.allows(Scope.DATASETS_READ, namespace)
