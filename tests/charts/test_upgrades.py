"""An upgrade of what is installed: Kubernetes refuses it where a field changes that is fixed, helm deletes what is gone.

Fixed are the fields that the API server answers with "field is immutable".
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from charts_rendering import ENVIRONMENTS, ROOT, Document, Render, Rendered

FIXED = {
    "Deployment": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    "DaemonSet": ("selector",),
    "Job": ("selector", "template", "completions", "completionMode"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName", "volumeMode", "volumeName", "selector", "dataSource"),
    "Service": ("clusterIP", "clusterIPs"),
}
# those that are not below `spec`
FIXED_AT_THE_TOP = {
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    "PriorityClass": ("value", "preemptionPolicy"),
    "StorageClass": ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    "ConfigMap": ("immutable",),
    "Secret": ("type", "immutable"),
}
RELEASES = {None: "lakegate", "base": "lakegate", "blue": "lakegate-blue", "green": "lakegate-green"}
# what people change between two revisions of one release
CHANGES = (
    "global.image.tag=v2",
    "global.image.registry=registry.example/lake",
    "global.monitoring.enabled=true",
    "global.loadJobs.enabled=true",
    "global.kafka.bootstrap=kafka:9092",
    "ingest.streamWorker.run=always",
    "base.networkPolicies.kafka.to=[{\"ipBlock\":{\"cidr\":\"10.0.0.0/8\"}}]",
    *(f"{service}.podLabels.team=lake" for service in ("gateway", "catalog", "ingest", "lineage")),
    *(f"{service}.replicas=5" for service in ("gateway", "catalog", "ingest", "lineage")),
    *(f"{service}.sweep.enabled=true" for service in ("gateway", "catalog", "ingest", "lineage")),
)
Fixed = dict[str, dict[str, Any]]


def fixed(rendered: Rendered) -> Fixed:
    """By kind and name, what has to stay; a hook that helm deletes before it makes it anew may change."""
    return {
        f"{document['kind']}/{document['metadata']['name']}": {name: found.get(name) for name in names}
        for document in rendered
        if not is_made_anew(document)
        for found, names in (
            (document.get("spec") or {}, FIXED.get(document["kind"], ())),
            (document, FIXED_AT_THE_TOP.get(document["kind"], ())),
        )
        if names
    }
