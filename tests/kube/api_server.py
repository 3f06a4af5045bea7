"""The semantics of a Kubernetes API server that a rollout leans on: versions, JSON patches, selectors, subresources.

The contract of the cluster port is run against this one and against a real one, so the two can't drift apart unseen.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from lakegate.rollout.api import read_answer

Document = dict[str, Any]
_PATH = re.compile(
    r"^(?P<group>/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<ns>[^/]+))?/(?P<kind>[a-z]+)(/(?P<name>[^/]+))?(/(?P<sub>scale))?$"
)
_NAMESPACE = re.compile(r"^/api/v1/(?P<kind>namespaces)/(?P<name>[^/]+)$")
_DISCOVERY = re.compile(r"^/(api/(?P<core>v1)|apis/(?P<version>[^/]+/[^/]+))$")


_NOTHING: tuple[int, Document] = (404, {"message": "the server could not find the requested resource"})


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiServer:
    """`before_write` and `after_write` are called with (kind, name): there faults are injected.

    `served` is what discovery tells: kinds by API version, each with its plural. `denied` holds (verb, resource) that
    an access review refuses.
    """

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], Document] = {}
        self._version = 100
        self._lock = threading.RLock()
        self.kubernetes = "v1.34.4"
        self.served: dict[str, dict[str, str]] = {}
        self.denied: set[tuple[str, str]] = set()
        self.before_read: Callable[[str, str], None] = lambda kind, name: None
        self.before_write: Callable[[str, str], None] = lambda kind, name: None
        self.after_write: Callable[[str, str], None] = lambda kind, name: None

    def put(self, kind: str, document: Document) -> Document:
        """As a controller or another person would: no version is asked for."""
        with self._lock:
            name = document["metadata"]["name"]
            known = self._objects.get((kind, name))
            unchanged = known is not None and _plain(known) == _plain(document)
            if known is not None and unchanged:
                return known
            document = _copy(document)
            generation = known["metadata"]["generation"] if known else 0
            if known is None or known.get("spec") != document.get("spec"):
                generation += 1
            document["metadata"] |= {"resourceVersion": self._next(), "generation": generation}
            self._objects[kind, name] = document
            return document

    def get(self, kind: str, name: str) -> Document:
        with self._lock:
            if (kind, name) not in self._objects:
                raise Refusal(404, f'{kind} "{name}" not found')
            return _copy(self._objects[kind, name])

    def all(self, kind: str) -> list[Document]:
        with self._lock:
            return [_copy(document) for (k, _), document in self._objects.items() if k == kind]

    def remove(self, kind: str, name: str) -> None:
        with self._lock:
            if self._objects.pop((kind, name), None) is not None:
                self._next()

    @property
    def version(self) -> int:
        """It rises with every change of anything."""
        return self._version

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def handle(self, method: str, target: str, body: Any) -> tuple[int, Document]:
        url = urlsplit(target)
        told = self._tell(method, url.path, body)
        if told is not None:
            return told
        match = _NAMESPACE.match(url.path) or _PATH.match(url.path)
        if match is None:
            return _NOTHING
        kind, name = match["kind"], unquote(match["name"] or "")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        try:
            if method == "GET":
                self.before_read(kind, name)
                if name:
                    return 200, self.get(kind, name)
                wanted = _selector(query.get("labelSelector", ""))
                with self._lock:
                    within = match["ns"]
                    found = [d for (k, _), d in self._objects.items() if k == kind and wanted(d) and _is_in(d, within)]
                    most = int(query.get("limit", len(found)))
                    rest = {"continue": "more"} if len(found) > most else {}
                    return 200, {"metadata": rest, "items": _copy(found[:most])}
            self.before_write(kind, name)
            with self._lock:
                answer = self._write(method, kind, name, match.groupdict().get("sub"), body, query.get("fieldManager"))
            self.after_write(kind, name)
            return answer
        except Refusal as refusal:
            return refusal.status, {"kind": "Status", "message": str(refusal), "code": refusal.status}

    def _tell(self, method: str, path: str, body: Any) -> tuple[int, Document] | None:
        """Version, discovery and access reviews, which are about no object."""
        if path == "/version":
            return 200, {"gitVersion": self.kubernetes}
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "groups": [_group(name) for name in self.served if name != "v1"]}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path.endswith("/selfsubjectaccessreviews") and method == "POST":
            asked = body["spec"]["resourceAttributes"]
            allowed = (asked["verb"], asked["resource"]) not in self.denied
            return 201, {**body, "status": {"allowed": allowed}}
        match = _DISCOVERY.match(path)
        if match is None:
            return None
        version = match["core"] or match["version"]
        if version not in self.served:
            return _NOTHING
        kinds = self.served[version].items()
        resources = [{"kind": kind, "name": name, "namespaced": True, "verbs": ["get"]} for kind, name in kinds]
        return 200, {"kind": "APIResourceList", "groupVersion": version, "resources": resources}

    def _write(
        self, method: str, kind: str, name: str, sub: str | None, body: Any, manager: str | None
    ) -> tuple[int, Document]:
        if method == "POST":
            metadata = body["metadata"]
            if "name" not in metadata:
                metadata["name"] = metadata["generateName"] + secrets.token_hex(3)
            if (kind, metadata["name"]) in self._objects:
                raise Refusal(409, f'{kind} "{metadata["name"]}" already exists')
            return 201, _copy(self.put(kind, body))
        if method == "DELETE":
            document = self.get(kind, name)
            self.remove(kind, name)
            return 200, document
        if method != "PATCH":
            raise Refusal(405, "the server does not allow this method on the requested resource")
        known = self.get(kind, name)
        document = _scale(known) if sub == "scale" else known
        patched = patch(document, body)
        if sub == "scale":
            known["spec"]["replicas"] = patched["spec"].get("replicas", 0)
            patched = known
        if manager is not None and patched.get("spec") != self.get(kind, name).get("spec"):
            _own(patched, manager)
        stored = self.put(kind, patched)
        return 200, _copy(_scale(stored) if sub == "scale" else stored)


def _group(group_version: str) -> Document:
    name, _, version = group_version.partition("/")
    known = {"groupVersion": group_version, "version": version}
    return {"name": name, "versions": [known], "preferredVersion": known}


class DirectApi:
    """The server without a socket in between, for tests that make many thousand calls."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def call(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None, patch: bool = False
    ) -> Document:
        from urllib.parse import urlencode

        target = f"{path}?{urlencode(query)}" if query else path
        status, answer = self._server.handle(method, target, _copy(body))
        return answer if status < 300 else read_answer(method, path, status, orjson.dumps(answer))


def kubeconfig(url: str, folder: Path) -> Path:
    """A file for clients of the server at `url`; any token will do."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def listening(server: ApiServer) -> Iterator[str]:
    """The server on a free port of the loopback; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.command == "PATCH" and self.headers["Content-Type"] != "application/json-patch+json":
                status, answer = 415, {"message": "the body of the request was in an unknown format"}
            else:
                status, answer = server.handle(self.command, self.path, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def patch(document: Document, operations: list[Document]) -> Document:
    """RFC 6902, as far as it is used; a `test` that does not hold is 422, as the API server has it."""
    document = _copy(document)
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        parent: Any = document
        for part in parts[:-1]:
            try:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            except (KeyError, IndexError) as error:
                raise Refusal(422, f"doc is missing path: {operation['path']}") from error
        last: Any = int(parts[-1]) if isinstance(parent, list) else parts[-1]
        exists = last in parent if isinstance(parent, dict) else last < len(parent)
        match operation["op"]:
            case "test":
                if not exists or parent[last] != operation["value"]:
                    raise Refusal(422, f"testing path {operation['path']} value failed")
            case "add":
                parent[last] = operation["value"]
            case "replace" | "remove" if not exists:
                raise Refusal(422, f"doc is missing key: {operation['path']}")
            case "replace":
                parent[last] = operation["value"]
            case "remove":
                del parent[last]
    return document


def _is_in(document: Document, namespace: str | None) -> bool:
    own = document["metadata"].get("namespace")
    return namespace is None or own is None or own == namespace


def _copy(document: Any) -> Any:
    return orjson.loads(orjson.dumps(document))


def _own(document: Document, manager: str) -> None:
    """As far as it is looked at: that somebody has changed the object, and not what."""
    entries = document["metadata"].setdefault("managedFields", [])
    if not any(entry["manager"] == manager for entry in entries):
        entries.append({"manager": manager, "operation": "Update"})


def _scale(deployment: Document) -> Document:
    names = ("name", "namespace", "resourceVersion")
    metadata = {name: deployment["metadata"][name] for name in names if name in deployment["metadata"]}
    replicas = deployment["spec"].get("replicas", 1)
    # the real one leaves a zero out
    return {"kind": "Scale", "metadata": metadata, "spec": {"replicas": replicas} if replicas else {}}


def _plain(document: Document) -> Document:
    metadata = {k: v for k, v in document["metadata"].items() if k not in ("resourceVersion", "generation")}
    return {**document, "metadata": metadata}


def _selector(text: str) -> Callable[[Document], bool]:
    wanted: list[tuple[str, set[str]]] = []
    for part in re.split(r",(?![^(]*\))", text) if text else []:
        name, _, values = part.partition(" in ") if " in " in part else part.partition("=")
        wanted.append((name.strip(), {value.strip() for value in values.strip("() ").split(",")}))

    def holds(document: Document) -> bool:
        labels = document["metadata"].get("labels") or {}
        return all(labels.get(name) in values for name, values in wanted)

    return holds
