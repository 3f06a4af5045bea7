"""The cluster port on a Kubernetes API server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from lakegate.rollout import objects
from lakegate.rollout.api import Api, pointer, segment
from lakegate.rollout.cluster import Holder, Names
from lakegate.rollout.errors import Conflict, Forbidden, NotFound, Refused
from lakegate.rollout.objects import COLOUR, COMPONENT, HISTORY, OWN_MINIMUM, PART_OF, STATE
from lakegate.rollout.states import MOST_HISTORY, HistoryEntry, Rollout
from lakegate.rollout.world import COLOURS, GATEWAY, Active, Autoscaler, Route, Wanted, Workload, World, target

_HISTORY = TypeAdapter(tuple[HistoryEntry, ...])
Operations = list[dict[str, Any]]
_MOST_ITEMS = 500
SERVICE_NAME = "kubernetes.io/service-name"


class KubernetesCluster:
    """Writes are JSON patches that test the resourceVersion first, so the API server itself refuses a stale one."""

    def __init__(self, api: Api, names: Names) -> None:
        self._api = api
        self.names = names
        namespace = f"namespaces/{segment(names.namespace)}"
        self._core = f"/api/v1/{namespace}"
        self._apps = f"/apis/apps/v1/{namespace}"
        self._autoscaling = f"/apis/autoscaling/v2/{namespace}/horizontalpodautoscalers"
        self._slices = f"/apis/discovery.k8s.io/v1/{namespace}/endpointslices"
        self._lease = f"/apis/coordination.k8s.io/v1/{namespace}/leases"
        self._routes = f"/apis/gateway.networking.k8s.io/v1/{namespace}/httproutes"
        self._jobs = f"/apis/batch/v1/{namespace}/jobs"

    def look(self) -> World:
        # first what a write will be tested against: all that is read after it is newer
        active = self.active()
        coloured = [
            self._list(path, {"labelSelector": f"{PART_OF}={self.names.suite},{COLOUR} in ({','.join(COLOURS)})"})
            for path in (f"{self._apps}/deployments", self._autoscaling, f"{self._core}/pods")
        ]
        workloads = tuple(map(objects.workload, coloured[0]))
        previews = {colour: self._preview(workloads, colour) for colour in COLOURS}
        services = ",".join([self.names.service, *previews.values()])
        slices = self._list(self._slices, {"labelSelector": f"{SERVICE_NAME} in ({services})"})
        by_service: dict[str, list[dict[str, Any]]] = {}
        for document in slices:
            by_service.setdefault(objects.labels(document)[SERVICE_NAME], []).append(document)
        route, past = self._routed(active, previews)
        return World(
            active=active,
            workloads=workloads,
            autoscalers=tuple(map(objects.autoscaler, coloured[1])),
            pods=tuple(map(objects.pod, coloured[2])),
            serving=objects.ready_pods(by_service.get(self.names.service, [])),
            previews={colour: objects.ready_pods(by_service.get(name, [])) for colour, name in previews.items()},
            services=previews,
            wanted=self._wanted(),
            route=route,
            past=past,
        )

    def active(self) -> Active:
        return objects.active(self._api.call("GET", f"{self._core}/services/{segment(self.names.service)}"))

    def _wanted(self) -> Wanted | None:
        try:
            return objects.wanted(self._api.call("GET", f"{self._core}/configmaps/{segment(self.names.consumers)}"))
        except NotFound:
            return None

    def _preview(self, workloads: tuple[Workload, ...], colour: str) -> str:
        """The release may be called anything: the charts name a Service as its Deployment."""
        ours = (found.name for found in workloads if (found.component, found.colour) == (GATEWAY, colour))
        return next(ours, self.names.preview_of(colour))

    def _routed(self, active: Active, previews: dict[str, str]) -> tuple[Route | None, dict[str, str]]:
        """The HTTPRoute of the active Service, and the previews that any leads to past that."""
        rollout = active.rollout
        name = (rollout.options.route if rollout is not None else None) or self.names.service
        # of the colour that a rollout under way brings up, or that the next one would
        colour = rollout.to_colour if rollout is not None and not rollout.phase.is_over else target(active)
        documents = self._httproutes(name)
        ours = next((document for document in documents if document["metadata"]["name"] == name), None)
        services = list(previews.values())
        route = objects.route(ours, self.names.service, previews[colour], services) if ours is not None else None
        return route, objects.past(documents, name, self.names.service, services)

    def _httproutes(self, name: str) -> list[dict[str, Any]]:
        """Those of the namespace, or where that is too much, or the role is of an older base, the one of that name."""
        try:
            document = self._api.call("GET", self._routes, query={"limit": str(_MOST_ITEMS)})
            if not (document.get("metadata") or {}).get("continue"):
                return document["items"] or []
        except NotFound:
            # no Gateway API in this cluster
            return []
        except Forbidden:
            pass
        try:
            return [self._api.call("GET", f"{self._routes}/{segment(name)}")]
        except (NotFound, Forbidden):
            return []

    def _list(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """A colour has some dozens of these. Beyond a page of 500 nothing is decided on half of them: Refused."""
        document = self._api.call("GET", path, query={**query, "limit": str(_MOST_ITEMS)})
        if (document.get("metadata") or {}).get("continue"):
            raise Refused(f"{path}: more than {_MOST_ITEMS} objects carry the suite's labels")
        items: list[dict[str, Any]] = document["items"]
        return items

    def _patch(self, path: str, resource_version: str, operations: Operations) -> dict[str, Any]:
        test = {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version}
        query = {"fieldManager": objects.MANAGER}
        return self._api.call("PATCH", path, query=query, body=[test, *operations], patch=True)

    def remember(
        self,
        seen: Active,
        rollout: Rollout,
        *,
        select: str | None = None,
        history: tuple[HistoryEntry, ...] | None = None,
    ) -> None:
        operations: Operations = []
        if not seen.annotated:
            operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
        operations.append(_annotate(STATE, rollout.model_dump_json()))
        if history is not None:
            operations.append(_annotate(HISTORY, _HISTORY.dump_json(history[-MOST_HISTORY:]).decode()))
        if select is not None:
            if seen.colour is not None:
                # no change of resourceVersion could hide it, but the selector is what must not be taken on trust
                operations.append({"op": "test", "path": f"/spec/selector/{pointer(COLOUR)}", "value": seen.colour})
            value = {PART_OF: self.names.suite, COMPONENT: GATEWAY, COLOUR: select}
            operations.append({"op": "add", "path": "/spec/selector", "value": value})
        self._patch(f"{self._core}/services/{segment(seen.name)}", seen.resource_version, operations)

    def scale(self, seen: Workload, replicas: int) -> None:
        # the subresource: the right to scale is no right to change what runs
        path = f"{self._apps}/deployments/{segment(seen.name)}/scale"
        # `add` also where the scale document leaves a zero out
        self._patch(path, seen.resource_version, [{"op": "add", "path": "/spec/replicas", "value": replicas}])

    def hold(self, seen: Autoscaler, minimum: int) -> None:
        own = seen.minimum if seen.restore is None else seen.restore
        path = f"{self._autoscaling}/{segment(seen.name)}"
        document = self._api.call("GET", path)
        operations: Operations = []
        if not objects.notes_of(document):
            operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
        operations.append(_annotate(OWN_MINIMUM, str(own)))
        operations.append({"op": "add", "path": "/spec/minReplicas", "value": minimum})
        self._patch(path, seen.resource_version, operations)

    def release(self, seen: Autoscaler, *, keep: bool) -> None:
        if seen.restore is None:
            return
        operations: Operations = [{"op": "remove", "path": f"/metadata/annotations/{pointer(OWN_MINIMUM)}"}]
        if not keep:
            operations.append({"op": "add", "path": "/spec/minReplicas", "value": seen.restore})
        self._patch(f"{self._autoscaling}/{segment(seen.name)}", seen.resource_version, operations)

    def want(self, seen: Wanted, colour: str | None, known: int = 0) -> None:
        value = json.dumps({"colour": colour, "generation": max(seen.generation, known) + 1})
        self._patch(
            f"{self._core}/configmaps/{segment(self.names.consumers)}",
            seen.resource_version,
            [{"op": "add", "path": "/data", "value": {objects.CONSUMERS_KEY: value}}],
        )

    def weigh(self, seen: Route, share: int | None) -> None:
        path = f"{self._routes}/{segment(seen.name)}"
        document = self._api.call("GET", path)
        if document["metadata"]["resourceVersion"] != seen.resource_version:
            raise Conflict(f"HTTPRoute {seen.name} has changed")
        preview, port = seen.preview, self._port(self._service(seen.preview))
        operations: Operations = []
        for number in seen.rules:
            rule = document["spec"]["rules"][number]
            previews = [ref for name in sorted(seen.previews) for ref in objects.refs(rule, document, name)]
            refs = [ref for ref in rule["backendRefs"] if ref not in previews]
            if share == 0:
                # it stays for as long as proxies may still send something there
                refs += [{**ref, "weight": 0} for ref in previews if ref["name"] != preview]
            stable = objects.refs(rule, document, self.names.service)[0]
            if share is None:
                # as the chart writes it: its next upgrade finds nothing that somebody else has set
                stable.pop("weight", None)
            else:
                stable["weight"] = 100 - share
                refs.append({**stable, "name": preview, "port": port, "weight": share})
            operations.append({"op": "replace", "path": f"/spec/rules/{number}/backendRefs", "value": refs})
        self._patch(path, seen.resource_version, operations)

    def disown(self, seen: Route | Autoscaler) -> None:
        path = f"{self._routes if isinstance(seen, Route) else self._autoscaling}/{segment(seen.name)}"
        # the last one first, since each shifts those behind it; another version has other entries, and is refused
        numbers = reversed(objects.owned(self._api.call("GET", path)))
        operations: Operations = [{"op": "remove", "path": f"/metadata/managedFields/{number}"} for number in numbers]
        self._patch(path, seen.resource_version, operations)

    def holder(self) -> Holder | None:
        try:
            document = self._api.call("GET", f"{self._lease}/{segment(self.names.lease)}")
        except NotFound:
            return None
        return _holder(document)

    def take_lease(self, seen: Holder | None, identity: str, seconds: int) -> Holder:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = {"holderIdentity": identity, "leaseDurationSeconds": seconds, "renewTime": now}
        if seen is None:
            metadata = {"name": self.names.lease, "labels": {PART_OF: self.names.suite}}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            return _holder(self._api.call("POST", self._lease, body={**body, "spec": {**spec, "acquireTime": now}}))
        if seen.identity != identity:
            spec["acquireTime"] = now
        operations = [{"op": "add", "path": f"/spec/{name}", "value": value} for name, value in spec.items()]
        return _holder(self._patch(f"{self._lease}/{segment(self.names.lease)}", seen.resource_version, operations))

    def address(self, service: str) -> str:
        spec = self._service(service)
        host = spec["clusterIP"]
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port(spec)}"

    def _service(self, name: str) -> dict[str, Any]:
        spec: dict[str, Any] = self._api.call("GET", f"{self._core}/services/{segment(name)}")["spec"]
        return spec

    @staticmethod
    def _port(spec: dict[str, Any]) -> int:
        """The port called http, else the first."""
        number: int = next(
            (port["port"] for port in spec["ports"] if port.get("name") == "http"), spec["ports"][0]["port"]
        )
        return number

    def tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        involved = {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": self.names.namespace,
            "name": self.names.service,
        }
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{self.names.lease}.", "namespace": self.names.namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message[:1000],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "lakegate-rollout"},
            "reportingComponent": "lakegate-rollout",
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._api.call("POST", f"{self._core}/events", body=event)

    def start_job(self, manifest: dict[str, Any]) -> None:
        self._api.call("POST", self._jobs, body=manifest)


def _annotate(name: str, value: str) -> dict[str, Any]:
    return {"op": "add", "path": f"/metadata/annotations/{pointer(name)}", "value": value}


def _holder(document: dict[str, Any]) -> Holder:
    spec = document.get("spec") or {}
    return Holder(
        identity=spec.get("holderIdentity") or "",
        resource_version=document["metadata"]["resourceVersion"],
        seconds=spec.get("leaseDurationSeconds") or 0,
    )
