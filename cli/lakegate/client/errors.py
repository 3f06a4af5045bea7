"""What the client raises.

LakegateError
├── BadSetting         the key or the address given can't be used; nothing was sent
├── Unreachable        no answer came: refused, name unknown, timed out; the cause says which
├── BrokenAnswer       an answer came that is not what the API promises (a proxy's page, cut JSON)
├── StillRunning       a load did not settle within the time given; it goes on, and can be waited for again
└── ProblemError       the server answered an RFC 9457 problem; `.problem` carries it whole
    ├── Refused        4xx: the request is at fault
    │   ├── NotAllowed 401, 403
    │   ├── NotFound   404
    │   └── Conflict   409, 412
    ├── ServiceFailed  5xx
    └── LoadFailed     the load was taken and then failed; `.load_id` names it
"""

from __future__ import annotations

from uuid import UUID

import httpx
from pydantic import ValidationError

from lakegate.client.models import Problem


class LakegateError(Exception):
    """The root of everything the client raises on purpose."""


class BadSetting(LakegateError):
    """The key or the address can't be used; the message does not show the key."""


class Unreachable(LakegateError):
    """No answer came; `url` is what was asked."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} did not answer: {reason}")
        self.url = url
        self.reason = reason


class BrokenAnswer(LakegateError):
    """An answer that this client can't read; the message shows how it begins."""


class StillRunning(LakegateError):
    """A load had not settled when the time was up."""

    def __init__(self, load_id: UUID | str, waited_seconds: float) -> None:
        super().__init__(f"Load {load_id} is still running after {waited_seconds:.0f} s.")
        self.load_id = load_id


class ProblemError(LakegateError):
    """The server answered a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title} ({problem.status}): {problem.detail}")
        self.problem = problem


class Refused(ProblemError):
    """The request is at fault."""


class NotAllowed(Refused):
    """No valid credential, or one that may not do this."""


class NotFound(Refused):
    """There is no such thing."""


class Conflict(Refused):
    """It collides with what is there, or with a request that is still running."""


class ServiceFailed(ProblemError):
    """The service failed; nothing is wrong with the request."""


class LoadFailed(ProblemError):
    """A load that was accepted and failed later."""

    def __init__(self, problem: Problem, load_id: UUID) -> None:
        super().__init__(problem)
        self.load_id = load_id


def problem_error(response: httpx.Response) -> ProblemError:
    """The exception for an answer of 400 and above; the body must have been read."""
    problem = _read_problem(response)
    status = response.status_code
    if status in (401, 403):
        return NotAllowed(problem)
    if status == 404:
        return NotFound(problem)
    if status in (409, 412):
        return Conflict(problem)
    return ServiceFailed(problem) if status >= 500 else Refused(problem)


def _read_problem(response: httpx.Response) -> Problem:
    if "json" in response.headers.get("content-type", ""):
        try:
            body = response.json()
        except ValueError:
            body = None
        if isinstance(body, dict):
            # OAuth (RFC 6749, 5.2) has its own dialect, also behind our gateway.
            if isinstance(body.get("error"), str):
                body = {"title": body["error"], "detail": body.get("error_description", "")}
            try:
                return Problem.model_validate({"status": response.status_code, **body})
            except ValidationError:
                pass
    return Problem(
        title=response.reason_phrase or "No problem document",
        status=response.status_code,
        detail=response.text[:500],
        instance=response.request.url.path,
    )
