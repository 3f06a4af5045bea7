"""What the chart and the values ask for: kinds, Secrets, volumes, classes, Gateways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lakegate.doctor.findings import Finding, failed, fine, unknown, warning
from lakegate.doctor.needs import Needs
from lakegate.doctor.served import Served, listed
from lakegate.rollout.api import Api, Document, segment
from lakegate.rollout.errors import Forbidden, NotFound

_DEFAULT_STORAGE = "storageclass.kubernetes.io/is-default-class"
_DEFAULT_INGRESS = "ingressclass.kubernetes.io/is-default-class"
_STORAGE = "/apis/storage.k8s.io/v1/storageclasses"
_INGRESS = "/apis/networking.k8s.io/v1/ingressclasses"
_PRIORITY = "/apis/scheduling.k8s.io/v1/priorityclasses"
_GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/gateways/{}"
_MOST_ITEMS = "500"
# who brings a group's definitions, and how to do without them
_BRINGS = {
    "gateway.networking.k8s.io": "Install the Gateway API's definitions, or set base.httpRoute.enabled=false.",
    "monitoring.coreos.com": "Install the Prometheus operator, or set global.monitoring.enabled=false.",
    "keda.sh": "Install KEDA, or set keda.enabled=false for each service.",
}
_MAKES = "`lakegate cluster secrets` writes the suite's own."


def kinds(served: Served, needs: Needs) -> Iterator[Finding]:
    missing = {(version, kind) for version, kind in needs.kinds if served.resource(version, kind) is None}
    for version, kind in sorted(missing):
        group = version.rpartition("/")[0]
        yield failed("kinds", f"{kind} ({version}) is not served", _BRINGS.get(group, "This server is too old for it."))
    if not missing:
        yield fine("kinds", f"all {len(needs.kinds)} that the manifests use are served")


def secrets(api: Api, namespace: str, needs: Needs) -> Iterator[Finding]:
    for name, keys in sorted(needs.secrets.items()):
        try:
            found = api.call("GET", f"/api/v1/namespaces/{segment(namespace)}/secrets/{segment(name)}")
        except NotFound:
            wanted = f" with {', '.join(sorted(keys))}" if keys else ""
            yield failed("secrets", f"{name} isn't there", f"Make it{wanted}: {_MAKES}")
            continue
        except Forbidden:
            yield unknown("secrets", f"your role may not read {name}", f"See that it has {', '.join(sorted(keys))}.")
            continue
        lacking = sorted(key for key in keys if not (found.get("data") or {}).get(key))
        if lacking:
            yield failed("secrets", f"{name} has no {', '.join(lacking)}, or an empty one", "Add it to the Secret.")
        else:
            yield fine("secrets", f"{name}: {', '.join(sorted(keys)) or 'there'}")


def storage(api: Api, namespace: str, needs: Needs) -> Iterator[Finding]:
    area = "storage"
    for name in sorted(needs.claims):
        yield _claim(api, namespace, name)
    if not needs.storage:
        if not needs.claims:
            yield fine(area, "no volume is asked for")
        return
    try:
        classes = listed(api, _STORAGE, {"limit": _MOST_ITEMS})
    except Forbidden:
        yield unknown(area, "your role may not list storage classes", "See `kubectl get storageclass`.")
        return
    yield from _classes(
        area, classes, needs.storage, _DEFAULT_STORAGE,
        no_default=lambda: failed(
            area, "a volume is asked for without a class, and the cluster has no default one",
            "Name a class (base.warehouseVolume.storageClass, ingest.spool.storageClass), or mark one as the default.",
        ),
    )  # fmt: skip


def _claim(api: Api, namespace: str, name: str) -> Finding:
    area = "storage"
    try:
        found = api.call("GET", f"/api/v1/namespaces/{segment(namespace)}/persistentvolumeclaims/{segment(name)}")
    except NotFound:
        return failed(
            area, f"the claim {name} isn't there", "Make it, or let the base release: base.warehouseVolume.create=true."
        )
    except Forbidden:
        return unknown(area, f"your role may not look at the claim {name}", "See `kubectl get pvc`.")
    phase = (found.get("status") or {}).get("phase", "Pending")
    if phase == "Lost":
        return failed(area, f"the claim {name} has lost its volume", "Restore the volume, or make the claim again.")
    if phase == "Pending":
        return warning(
            area, f"the claim {name} is not bound yet", "Fine if its class waits for the first pod; else describe it."
        )
    return fine(area, f"the claim {name} is bound")


def classes(api: Api, needs: Needs) -> Iterator[Finding]:
    """Priority and ingress classes."""
    for name in sorted(needs.priorities):
        try:
            api.call("GET", f"{_PRIORITY}/{segment(name)}")
        except NotFound:
            yield failed(
                "priorities", f"the class {name} isn't there", "Set base.priorityClasses.create=true, or make it."
            )
        except Forbidden:
            yield unknown("priorities", f"your role may not look at {name}", "See `kubectl get priorityclass`.")
        else:
            yield fine("priorities", name)
    if not needs.ingress:
        return
    try:
        found = listed(api, _INGRESS, {"limit": _MOST_ITEMS})
    except Forbidden:
        yield unknown("ingress", "your role may not list ingress classes", "See `kubectl get ingressclass`.")
        return
    yield from _classes(
        "ingress", found, needs.ingress, _DEFAULT_INGRESS,
        no_default=lambda: warning(
            "ingress", "no ingress class is the default, and base.ingress.className names none",
            "Name the controller's class, or see that it takes an Ingress without one.",
        ),
    )  # fmt: skip


def _classes(
    area: str, found: list[Document], wanted: Iterable[str], default: str, *, no_default: Callable[[], Finding]
) -> Iterator[Finding]:
    """`wanted` holds names, or "" for the one with the annotation `default`."""
    known = {item["metadata"]["name"]: item["metadata"].get("annotations") or {} for item in found}
    for name in sorted(wanted):
        if name:
            if name in known:
                yield fine(area, f"class {name}")
            else:
                others = ", ".join(sorted(known)) or "none"
                yield failed(area, f"there is no class {name}", f"Name one that is there: {others}.")
            continue
        defaults = sorted(known_name for known_name, notes in known.items() if notes.get(default) == "true")
        yield fine(area, f"default class {', '.join(defaults)}") if defaults else no_default()


def gateways(api: Api, needs: Needs) -> Iterator[Finding]:
    for namespace, name in sorted(needs.gateways):
        where = f"{namespace}/{name}"
        try:
            found = api.call("GET", _GATEWAYS.format(segment(namespace), segment(name)))
        except NotFound:
            yield failed(
                "gateway", f"the Gateway {where} isn't there", "Correct base.httpRoute.parentRefs, or make it."
            )
            continue
        except Forbidden:
            yield unknown("gateway", f"your role may not look at the Gateway {where}", "See that it is Programmed.")
            continue
        conditions = (found.get("status") or {}).get("conditions") or []
        if any(item["type"] == "Programmed" and item["status"] == "True" for item in conditions):
            yield fine("gateway", f"{where} is programmed")
        else:
            yield warning("gateway", f"{where} is not programmed", "See its conditions: does its controller run?")
