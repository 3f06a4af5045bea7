"""A call is built once and sent by either client: the descriptor below gives it the right colour.

`load = Operation(load)` in a class makes `Client.load(...)` return `Load` and `AsyncClient.load(...)` an awaitable of
it, with the parameters of the building function, and both are known to a type checker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import httpx
from pydantic import BaseModel, ValidationError

from lakegate.client.errors import BrokenAnswer

P = ParamSpec("P")
T = TypeVar("T")
Answer = TypeVar("Answer", bound=BaseModel)
Scalar = str | int | float | bool
Query = Mapping[str, Scalar | list[str] | None]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and how its answer is read. `idempotent`: it may be sent again when the outcome is unknown."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Query = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None
    content: bytes | None = None
    auth: bool = True

    @property
    def idempotent(self) -> bool:
        return self.method in ("GET", "PUT", "DELETE") or "Idempotency-Key" in self.headers

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for httpx's build_request, None parameters left out."""
        arguments: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        arguments["params"] = {name: value for name, value in self.params.items() if value is not None}
        if self.json is not None:
            arguments["json"] = self.json
        if self.content is not None:
            arguments["content"] = self.content
        if self.form is not None:
            arguments["data"] = dict(self.form)
        return arguments


class SyncSender(Protocol):
    def send(self, call: Call[T], /) -> T: ...


class AsyncSender(Protocol):
    def send(self, call: Call[T], /) -> Awaitable[T]: ...


class Operation(Generic[P, T]):
    """A building function as a method of both clients."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Operation[P, T]: ...
    @overload
    def __get__(self, client: SyncSender, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncSender, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        def send(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self.build(*args, **kwargs))

        send.__doc__ = self.__doc__
        send.__name__ = self.build.__name__
        return send


def model(shape: type[Answer]) -> Callable[[httpx.Response], Answer]:
    """A reader of JSON answers. It raises BrokenAnswer when the body is not of that shape."""

    def read(response: httpx.Response) -> Answer:
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            raise BrokenAnswer(
                f"{response.request.method} {response.request.url.path} answered {response.status_code} with something "
                f"that is no {shape.__name__}: {error.errors()[0]['msg']} in {response.text[:200]!r}"
            ) from error

    return read


def nothing(response: httpx.Response) -> None:
    """The reader of an answer without a body."""


def document(response: httpx.Response) -> dict[str, Any]:
    """The reader of a JSON object that has no model."""
    try:
        return cast("dict[str, Any]", response.json())
    except ValueError as error:
        raise BrokenAnswer(f"{response.request.url.path} answered no JSON: {response.text[:200]!r}") from error
