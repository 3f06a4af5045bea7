"""Iceberg commits by PyIceberg, in a thread, as an engine would do them: after a doubt it looks for its own mark."""

from __future__ import annotations

import asyncio
from typing import Any

import pyarrow as pa
import requests
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
)
from requests.adapters import HTTPAdapter

from chaos.clients import NAMESPACE, ROWS, Client
from chaos.door import PAUSE, Door, bounds, read_refusal
from chaos.ledger import Ledger, Operation, Refusal, now

MARK = "chaos"
_SCHEMA = pa.schema([("op", pa.string()), ("row", pa.int64())])
# What PyIceberg raises for answers that are none, and for connections that end.
_REFUSED = (
    RESTError,
    CommitFailedException,
    CommitStateUnknownException,
    TableAlreadyExistsError,
    requests.RequestException,
    OSError,
)
# PyIceberg's own repeat would not look first whether a commit whose answer was lost has meanwhile been done.
_PROPERTIES = {"commit.retry.num-retries": "0"}


class _Watched(HTTPAdapter):
    """Every request has a bound, and whatever is no success goes into the ledger."""

    def __init__(self, ledger: Ledger, *, may_cut: bool) -> None:
        super().__init__()
        self._ledger = ledger
        self._may_cut = may_cut

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        began = now()
        path = request.path_url.partition("?")[0]
        options["timeout"] = max(bounds(path))  # of the head, and of each piece behind it
        try:
            answer = super().send(request, *arguments, **options)
        except requests.Timeout:
            self._ledger.violations.append(f"hang: {request.method} {path} had no answer in {max(bounds(path)):g} s")
            raise
        except requests.ConnectionError as error:
            if not self._may_cut:
                self._ledger.violations.append(f"{request.method} {path} ended with {error}")
            self._ledger.refusals.append(Refusal(began, "iceberg", 0, "connection ended"))
            raise
        # a table that is not there yet is an answer
        if answer.status_code >= 400 and answer.status_code != 404:
            media = answer.headers.get("content-type", "")
            refusal = read_refusal("iceberg", began, answer.status_code, media, answer.content)
            if refusal is None:
                self._ledger.violations.append(f"{path}: {answer.status_code} is no Iceberg error: {answer.text[:200]}")
            else:
                self._ledger.refusals.append(refusal)
        else:
            self._ledger.serve("iceberg", began)
        return answer


class Committer(Client):
    """Appends to a table of its own; each snapshot carries the operation's name."""

    kind = "iceberg"

    def __init__(self, door: Door, tag: str, url: str, key: str, *, may_cut: bool) -> None:
        super().__init__(door, tag)
        self._url, self._key, self._may_cut = url, key, may_cut
        self._opened: RestCatalog | None = None

    async def operate(self, operation: Operation) -> None:
        operation.facts["table"] = self.table()
        while True:
            if await asyncio.to_thread(self._attempt, operation):
                self.ledger.acknowledge(operation)
                return
            operation.repeats += 1
            await asyncio.sleep(PAUSE)

    def table(self) -> str:
        return f"{self.tag}_commits"

    def _attempt(self, operation: Operation) -> bool:
        """Whether the operation is in the table now. A file that can't be written is the client's own full disk."""
        try:
            catalog = self._catalog()
            try:
                table = catalog.load_table((NAMESPACE, self.table()))
            except NoSuchTableError:
                table = catalog.create_table((NAMESPACE, self.table()), _SCHEMA, properties=_PROPERTIES)
            if operation.repeats and any(
                snapshot.summary is not None and snapshot.summary[MARK] == operation.name
                for snapshot in table.snapshots()
            ):
                return True
            rows = pa.table({"op": [operation.name] * ROWS, "row": list(range(ROWS))}, schema=_SCHEMA)
            table.append(rows, snapshot_properties={MARK: operation.name})
        except _REFUSED:
            return False
        return True

    def _catalog(self) -> RestCatalog:
        if self._opened is None:
            watched = _Watched(self.ledger, may_cut=self._may_cut)

            class Watching(RestCatalog):
                def _create_session(self) -> requests.Session:
                    session = super()._create_session()
                    session.mount("http://", watched)
                    return session

            self._opened = Watching("chaos", uri=f"{self._url}/iceberg", warehouse="lakehouse", token=self._key)
        return self._opened
