"""The Kubernetes API as JSON documents. The `kubernetes` package logs in and speaks TLS; its models stay out.

Documents keep what this release's models don't know, and an object of another maker can't fail their validation.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from lakegate.rollout.errors import ApiAway, Conflict, Forbidden, NotFound, Refused

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Document = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 2.0, 5.0
# the API server answers these when it can't work just now
_AWAY = frozenset({429, 500, 502, 503, 504})


class Api(Protocol):
    """One request. Raises ApiError."""

    def call(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None, patch: bool = False
    ) -> Document: ...


class HttpApi:
    """The API server of a kubeconfig, or of the pod's ServiceAccount."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def call(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None, patch: bool = False
    ) -> Document:
        """`patch`: the body is a JSON patch (RFC 6902)."""
        import urllib3
        from kubernetes.client import ApiException

        headers = {"Accept": "application/json", "User-Agent": "lakegate-rollout"}
        if body is not None:
            headers["Content-Type"] = "application/json-patch+json" if patch else "application/json"
        if query:
            path = f"{path}?{urlencode(query)}"
        method, url, headers, body, _ = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            answer = self._client.call_api(method, url, headers, body, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
            text = answer.read()  # type: ignore[no-untyped-call] # of the generated client
        except (urllib3.exceptions.HTTPError, ApiException) as error:
            # ApiException here is the client's own: a connection that could not be made, TLS that was not agreed on
            raise ApiAway(f"{method} {path}: {error}") from error
        return read_answer(method, path, answer.status, text)


def read_answer(method: str, path: str, status: int, text: bytes) -> Document:
    """The document, or what the status means. Raises ApiError."""
    try:
        document: Document = json.loads(text) if text else {}
    except ValueError:
        document = {"message": text[:200].decode(errors="replace")}
    if 200 <= status < 300:
        return document
    message = f"{method} {path}: {status} {document.get('message', '')}"[:500]
    # 422 is what a JSON patch answers whose `test` did not hold; validation and policies answer it, too, with causes
    details = document.get("details")
    caused = isinstance(details, dict) and bool(details.get("causes"))
    if status == 409 or (status == 422 and method == "PATCH" and not caused):
        raise Conflict(message)
    if status == 404:
        raise NotFound(message)
    if status in (401, 403):
        raise Forbidden(message)
    raise ApiAway(message) if status in _AWAY else Refused(message)


def connect(context: str | None = None) -> HttpApi:
    """The pod's own API server inside a cluster, else the kubeconfig's. Raises NoCluster."""
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration

    from lakegate.rollout.errors import NoCluster

    chosen = Configuration()
    # a retry in the client could outlive the Lease; the driver's own looks again first
    chosen.retries = False
    try:
        if context is None:
            try:
                config.load_incluster_config(client_configuration=chosen)  # type: ignore[no-untyped-call]
                return HttpApi(ApiClient(chosen))
            except config.ConfigException:
                pass
        config.load_kube_config(context=context, client_configuration=chosen)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise NoCluster(f"No Kubernetes cluster is known here: {error}") from error
    return HttpApi(ApiClient(chosen))


def pointer(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def segment(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")
