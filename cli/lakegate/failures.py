"""How a command fails: one place that words each error and picks the exit code.

0 done · 1 something here is wrong (file, configuration, suite) · 2 wrong usage · 3 the server refused the request or
the load failed · 4 not allowed · 5 the service failed · 6 the gateway can't be reached · 130 interrupted
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urljoin

import typer

from lakegate.output import Output
from lakegate.text import json_for_terminals, styled, visible, visible_lines

P = ParamSpec("P")
R = TypeVar("R")

FAILED, USAGE, REFUSED, NOT_ALLOWED, SERVICE_FAILED, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

_ERROR = ("error:", "bold red")
_INDENT = len("error: ")


class CommandFailed(Exception):
    """A command can't go on; the message is for a person, `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str | None = None, code: int = FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors are worded for people, or written as a problem document to stderr with --json."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # `lakegate sql … | head` closed the pipe: that is no failure. Python must not flush into it at exit.
            sys.stdout = None
            raise typer.Exit(0) from None
        except CommandFailed as error:
            _say(kwargs, str(error), error.hint)
            raise typer.Exit(error.code) from None
        except Exception as error:
            code = _explain(error, kwargs)
            if code is None:
                raise
            raise typer.Exit(code) from None

    return run


@contextmanager
def on_cluster() -> Iterator[None]:
    """What Kubernetes answers, in the words of the command line."""
    from lakegate.rollout import errors

    try:
        yield
    except errors.Forbidden as error:
        raise CommandFailed(str(error), hint="Your role lacks this right.", code=NOT_ALLOWED) from error
    except (errors.ApiAway, errors.NoCluster) as error:
        raise CommandFailed(str(error), code=UNREACHABLE) from error
    except errors.NotFound as error:
        hint = "Is the base release installed in this namespace? See --namespace and --service."
        raise CommandFailed(str(error), hint=hint) from error
    except errors.RolloutError as error:
        raise CommandFailed(str(error)) from error


def _explain(error: Exception, options: dict[str, Any]) -> int | None:
    # Imported late: most commands never fail, and `lakegate --help` needs no client.
    from lakegate import client
    from lakegate.profiles import ProfileError
    from lakegate_contracts.names import InvalidName

    match error:
        case client.ProblemError():
            _say_problem(options, error)
            if isinstance(error, client.NotAllowed):
                return NOT_ALLOWED
            return SERVICE_FAILED if isinstance(error, client.ServiceFailed) else REFUSED
        case client.Unreachable():
            _say(options, str(error), "Is the suite running? `lakegate status` tells, `lakegate up` starts one.")
            return UNREACHABLE
        case client.StillRunning():
            _say(options, str(error), f"See how it goes: lakegate loads {error.load_id}")
            return FAILED
        case client.LakegateError() | ProfileError():
            _say(options, str(error), None)
            return FAILED
        case InvalidName():
            _say(options, str(error), None)
            return USAGE
        case OSError() if error.filename is not None:
            _say(options, f"{error.filename}: {error.strerror}", None)
            return FAILED
    return None


def _say(options: dict[str, Any], message: str, hint: str | None) -> None:
    output = Output(as_json=bool(options.get("as_json")))
    if output.as_json:
        _write({"title": message, "status": None, "detail": hint or ""})
        return
    output.errors.print(styled(_ERROR, " "), visible_lines(message, _INDENT), sep="")
    if hint:
        output.errors.print(" " * _INDENT + visible_lines(hint, _INDENT), style="dim")


def _say_problem(options: dict[str, Any], error: Any) -> None:
    output = Output(as_json=bool(options.get("as_json")))
    problem = error.problem
    if output.as_json:
        _write(problem.model_dump(mode="json", exclude_none=True))
        return
    print_ = output.errors.print
    print_(styled(_ERROR, f" {problem.title} ", (f"({problem.status or 'load failed'})", "dim")))
    if problem.detail:
        print_(" " * _INDENT + visible_lines(problem.detail, _INDENT))
    for field in problem.errors:
        if field.detail in problem.detail:
            continue
        at = styled((field.pointer, "bold"), ": ") if field.pointer else ""
        print_(styled(" " * _INDENT, "- ", at, field.detail))
    aside = [f"see {_page(problem.type, options)}"] if problem.type != "about:blank" else []
    aside += [f"trace {problem.trace_id}"] if problem.trace_id else []
    if aside:
        print_(" " * _INDENT + visible(" · ".join(aside)), style="dim")


def _page(type_: str, options: dict[str, Any]) -> str:
    """The problem's page as a URL that can be opened: the gateway serves it."""
    from lakegate.options import chosen_profile
    from lakegate.profiles import ProfileError

    try:
        return urljoin(f"{chosen_profile(options.get('profile')).url}/", type_)
    except ProfileError:
        return type_


def _write(document: dict[str, Any]) -> None:
    sys.stderr.write(json_for_terminals(json.dumps(document, ensure_ascii=False)) + "\n")
