"""The gateway as a client with a clock sees it: every request ends in time, and every refusal is a problem."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson

from chaos.ledger import Ledger, Refusal, now
from lakegate_gateway.routes import match

MARGIN = 5.0
# A client obeys Retry-After; here up to a second, so that what is measured is the suite and not the client's patience.
LONGEST_PAUSE = 1.0
PAUSE = 0.2


def bounds(path: str) -> tuple[float, float]:
    """How long a client waits at most for the head of an answer, and then for the rest of one of a few kilobytes.

    That is what the gateway's routing table promises, and a margin.
    """
    route = match(path)
    assert route is not None, path
    return route.deadline_seconds + MARGIN, route.idle_seconds + MARGIN


class Door:
    """Asks, and notes whatever is no success. `may_cut`: the gateway is the victim, so connections may end."""

    def __init__(self, url: str, key: str, ledger: Ledger, *, may_cut: bool) -> None:
        self.ledger = ledger
        self._may_cut = may_cut
        self._http = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=None, trust_env=False
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, kind: str, method: str, path: str, **options: Any) -> httpx.Response | None:
        """The answer, whatever its status; None when the connection ended without one."""
        began = now()
        head_seconds, rest_seconds = bounds(path)
        try:
            async with asyncio.timeout(head_seconds) as limit:
                async with self._http.stream(method, path, **options) as answer:
                    limit.reschedule(asyncio.get_running_loop().time() + rest_seconds)
                    await answer.aread()
        except TimeoutError:
            self._break(f"hang: {method} {path} had no answer, or no end of it, after {now() - began:.0f} s")
            return None
        except httpx.TransportError as error:
            # an answer that had begun can only be cut, which the client sees
            cut = kind == "read" and isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
            if not (self._may_cut or cut):
                self._break(f"{method} {path} ended with {type(error).__name__} after {now() - began:.1f} s")
            self.ledger.refusals.append(Refusal(began, kind, 0, "answer cut" if cut else "connection ended"))
            return None
        # not there yet is an answer
        if answer.status_code >= 400 and answer.status_code != 404:
            self._note(kind, began, answer)
        else:
            self.ledger.serve(kind, began)
        return answer

    async def pause(self, answer: httpx.Response | None) -> None:
        """Before the request is sent again."""
        stated = answer.headers.get("retry-after", "") if answer is not None else ""
        await asyncio.sleep(min(float(stated), LONGEST_PAUSE) if stated.isdigit() else PAUSE)

    def _note(self, kind: str, began: float, answer: httpx.Response) -> None:
        media = answer.headers.get("content-type", "")
        refusal = read_refusal(kind, began, answer.status_code, media, answer.content)
        if refusal is None:
            self._break(f"{answer.request.url.path}: {answer.status_code} is no problem document: {answer.text[:200]}")
            return
        self.ledger.refusals.append(refusal)

    def _break(self, what: str) -> None:
        self.ledger.violations.append(what)


def read_refusal(kind: str, began: float, status: int, content_type: str, body: bytes) -> Refusal | None:
    """A problem (RFC 9457) or, for Iceberg's clients, an error of theirs; None for anything else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if content_type.startswith("application/problem+json"):
        if not {"type", "title", "status", "detail"} <= document.keys() or document["status"] != status:
            return None
        return Refusal(began, kind, status, document["type"].rpartition("/")[2], document["detail"])
    error = document.get("error") if kind == "iceberg" and isinstance(document, dict) else None
    if isinstance(error, dict) and error.keys() >= {"message", "type", "code"} and error["code"] == status:
        return Refusal(began, kind, status, error["type"], error["message"])
    return None
