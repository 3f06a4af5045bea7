"""Write each chart's values.schema.json: `settings` from the services' own settings classes, the rest from here.

A setting that a service does not have, or a value out of its bounds, is refused before anything is installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr

from lakegate_catalog.settings import CatalogSettings
from lakegate_chassis.settings import KafkaSettings
from lakegate_gateway.settings import GatewaySettings
from lakegate_ingest.settings import IngestSettings
from lakegate_lineage.settings import LineageSettings

HERE = Path(__file__).parent
Schema = dict[str, Any]

SERVICES: dict[str, type[BaseModel]] = {
    "gateway": GatewaySettings,
    "catalog": CatalogSettings,
    "ingest": IngestSettings,
    "lineage": LineageSettings,
}
# Set by the templates: from the release, from global, or from a value of the chart.
DERIVED = {
    "host", "port", "management_host", "management_port", "environment", "drain_seconds", "finish_seconds", "kafka",
    "trace.endpoint",
    "sweeps_in_process", "worker",
    "consumers", "catalog_url", "ingest_url", "lineage_url", "token_exchange_url", "issuer.url", "warehouse",
    "search.dir", "spool.dir", "spool.quota_bytes", "quarantine.location", "files.endpoint",
}  # fmt: skip
# Names of files; their contents come out of Secrets.
BACKEND_FILES = ["token.jwks", "kafka.ca_file", "kafka.certificate_file", "kafka.key_file", "trace.ca_file"]
FILES = {
    "gateway": ["trace.ca_file"],
    "catalog": [*BACKEND_FILES, "objects.credentials_file"],
    "ingest": [*BACKEND_FILES, "objects.credentials_file"],
    "lineage": BACKEND_FILES,
}
# Names of folders, each a whole Secret.
FOLDERS = {"gateway": ["token.private_key"]}
# Values that `null` may take away: what the templates have a word of their own for, and what is somebody's choice.
MAY_GO = {
    "global", "settings", "resources",
    "postgres", "kafka", "mongodb", "objectStore", "traces",
}  # fmt: skip
# And may not, as a whole: each chart needs some of it. Of what is in it, each is somebody's choice.
STAYS = {"secretSettings", "secretFiles", "secretFolders"}
# No secrets by type, but they hold some or come with them.
ALSO_SECRET = {"kafka.username", "objects.access_key_id"}


def obj(properties: Schema, *required: str, **more: Any) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": list(required)} if required else {}),
        **more,
    }


def text(description: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def integer(minimum: int = 0, **more: Any) -> Schema:
    return {"type": "integer", "minimum": minimum, **more}


def amount(minimum: float = 0) -> Schema:
    return {"type": "number", "minimum": minimum}


def listed(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


FLAG: Schema = {"type": "boolean"}
NAME = text(pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", maxLength=253)
# of a Service, which is a label of DNS; of many hosts where it begins with a star
SERVICE = text(pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", maxLength=63)
HOST_PATTERN = r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
# mebibytes or gibibytes: the templates calculate with it
MEMORY = text(pattern="^[1-9][0-9]*(Mi|Gi)$")
CPU: Schema = {"type": ["string", "number"], "pattern": "^[0-9.]+m?$"}
STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
# objects of the Kubernetes API, which checks them itself
FOREIGN: Schema = {"type": "object"}
FOREIGNS = listed(FOREIGN)
SECRET_KEY = obj({"name": NAME, "key": text(minLength=1), "optional": FLAG}, "name", "key")
IMAGE = obj({"repository": text(minLength=1), "tag": text(), "digest": text(pattern="^(sha256:[0-9a-f]{64})?$")})
QUANTITIES = obj({"cpu": CPU, "memory": MEMORY}, "cpu", "memory")
RESOURCES = obj({"requests": QUANTITIES, "limits": QUANTITIES}, "requests", "limits")
PORTS = listed(integer(1, maximum=65535), minItems=1)
PEERS = obj({"to": FOREIGNS, "ports": PORTS}, "to", "ports")

# parts of a service's values
AUTOSCALING = obj(
    {
        "enabled": FLAG,
        "minReplicas": integer(1),
        "maxReplicas": integer(1),
        "cpuPercent": integer(10, maximum=100),
        "customMetrics": text(enum=["auto", "always", "never"]),
        "podMetrics": listed(obj({"name": text(minLength=1), "average": text(minLength=1)}, "name", "average")),
        "behavior": FOREIGN,
    }
)
KEDA = obj(
    {
        "enabled": FLAG,
        "minReplicas": integer(0),
        "maxReplicas": integer(1),
        "group": text(),
        "topics": listed(text(minLength=1)),
        "lag": text(pattern="^[1-9][0-9]*$"),
        "authentication": text(),
    }
)
SWEEP = obj(
    {
        "enabled": FLAG,
        "schedule": text("as cron has it", pattern=r"^(@[a-z]+|\S+( \S+){4})$"),
        "deadlineSeconds": integer(60),
        "resources": RESOURCES,
    }
)
DISRUPTION = obj({"enabled": FLAG, "maxUnavailable": {"type": ["integer", "string"], "pattern": "^[0-9]{1,3}%$"}})
SPREAD = listed(
    obj(
        {
            "maxSkew": integer(1),
            "topologyKey": text(minLength=1),
            "whenUnsatisfiable": text(enum=["ScheduleAnyway", "DoNotSchedule"]),
        },
        "maxSkew",
        "topologyKey",
        "whenUnsatisfiable",
    )
)
DRAIN = obj(
    {
        "preStopSeconds": integer(1, maximum=60),
        "seconds": {"type": "number", "minimum": 0, "maximum": 60},
        "graceSeconds": integer(1, maximum=3600),
    }
)
JOB_SIZE = {"fromGib": amount(), "engineMib": integer(64), "threads": integer(1), "resources": RESOURCES}
LOAD_JOBS = obj(
    {
        "fromGib": amount(),
        "atOnce": integer(1, maximum=64),
        "startSeconds": integer(1),
        "backoffLimit": integer(0, maximum=10),
        "deadlineSeconds": integer(60),
        "ttlSeconds": integer(0),
        "spoolTimes": amount(1),
        "priorityClassName": text(),
        "admissionPolicy": FLAG,
        "sizes": listed(obj(JOB_SIZE, *JOB_SIZE)),
    }
)


def settings_schema(model: type[BaseModel], path: str = "") -> Schema:
    """The settings that values may name: without secrets, files and what the templates derive; nothing required."""
    document = model.model_json_schema()
    whole = _inlined(document, document.get("$defs", {}))
    return _pruned(whole, model, path)


def _inlined(node: Any, definitions: Schema) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
        if len(node.get("allOf", [])) == 1:
            return _inlined({**node["allOf"][0], **{k: v for k, v in node.items() if k != "allOf"}}, definitions)
        return {key: _inlined(value, definitions) for key, value in node.items() if key != "$defs"}
    return [_inlined(item, definitions) for item in node] if isinstance(node, list) else node


def _pruned(node: Schema, model: type[BaseModel], path: str) -> Schema:
    properties = {}
    for name, field in model.model_fields.items():
        at = f"{path}{name}"
        if at in DERIVED or at in ALSO_SECRET or _is_secret(field.annotation) or _is_mounted(at):
            continue
        section = _section(field.annotation)
        own = node["properties"].get(name, {})
        own = _pruned(own, section, f"{at}.") if section else {k: v for k, v in own.items() if k != "title"}
        own.pop("default", None)
        if section is None or own["properties"]:
            properties[name] = own
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _is_mounted(at: str) -> bool:
    return any(at in names for names in (*FILES.values(), *FOLDERS.values()))


def secrets_of(model: type[BaseModel], path: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if _is_secret(field.annotation) or f"{path}{name}" in ALSO_SECRET:
            found.append(f"{path}{name}")
        elif section:
            found += secrets_of(section, f"{path}{name}.")
    return found


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))


def shared() -> Schema:
    """`global`: the same in every chart."""
    return obj(
        {
            "environment": text("a label of metrics; prod also refuses what production can't do with", minLength=1),
            "colour": text("of a blue/green installation; empty in a plain one", enum=["", "blue", "green"]),
            "publicUrl": text("the gateway's address as clients know it", pattern="^(https?://[^/]+)?$"),
            "image": obj(
                {
                    "registry": text(),
                    "tag": text(),
                    "pullPolicy": text(enum=["IfNotPresent", "Always", "Never"]),
                    "pullSecrets": listed(NAME),
                }
            ),
            "nodeSelector": STRINGS,
            "tolerations": FOREIGNS,
            "priorityClassName": text("of everything that has none of its own; it has to be there before"),
            "warehouse": obj(
                {
                    "name": text("what Iceberg clients call it", minLength=1),
                    "location": text("URL of a folder or bucket", pattern="^((file|s3|gs|abfss?|az)://.*)?$"),
                    "claim": text("the volume of a folder"),
                    "options": obj({"endpoint": text(), "region": text(), "url": text(), "path_style": FLAG}),
                    "clientProperties": STRINGS,
                }
            ),
            "kafka": settings_schema(KafkaSettings, "kafka."),
            "loadJobs": obj({"enabled": FLAG}),
            "trace": obj({"endpoint": text("OTLP/HTTP", pattern="^(https?://.+)?$")}),
            "monitoring": obj({"enabled": FLAG, "labels": STRINGS, "interval": text(pattern="^[0-9]+(ms|s|m)$")}),
        }
    )


def service(name: str) -> Schema:
    model = SERVICES[name]
    properties: Schema = {
        "global": shared(),
        "lakegate-lib": FOREIGN,
        "enabled": FLAG,
        "replicas": integer(0),
        "image": IMAGE,
        "settings": settings_schema(model),
        "secretSettings": obj(dict.fromkeys(secrets_of(model), SECRET_KEY), "postgres.url"),
        "secretFiles": obj(dict.fromkeys(FILES[name], SECRET_KEY), *(["token.jwks"] if name != "gateway" else [])),
        "migration": obj({"enabled": FLAG, "secret": SECRET_KEY, "resources": RESOURCES}),
        "resources": RESOURCES,
        "tmpSize": MEMORY,
        "autoscaling": AUTOSCALING,
        "keda": KEDA,
        "sweep": SWEEP,
        "disruption": DISRUPTION,
        "spread": SPREAD,
        "drain": DRAIN,
        "development": obj({"sync": FLAG}),
        "serviceAccount": obj({"annotations": STRINGS}),
        "priorityClassName": text(),
        "nodeSelector": STRINGS,
        "tolerations": FOREIGNS,
        "affinity": FOREIGN,
        "podLabels": STRINGS,
        "podAnnotations": STRINGS,
    }
    if name in FOLDERS:
        whole = obj({"name": NAME}, "name")
        properties["secretFolders"] = obj(dict.fromkeys(FOLDERS[name], whole), *FOLDERS[name])
    if name == "catalog":
        properties["searchSize"] = MEMORY
    if name == "ingest":
        properties["spool"] = obj(
            {"kind": text(enum=["emptyDir", "volume"]), "gib": integer(1), "storageClass": text()}
        )
        properties["streamWorker"] = stream_worker(properties)
        properties["loadJobs"] = LOAD_JOBS
    return document(f"Values of Lakegate's {name}", properties)


def stream_worker(ingest: Schema) -> Schema:
    """What it does not share with ingest's API. Its group is a setting, and it consumes all topics of that."""
    own = ("replicas", "settings", "resources", "tmpSize", "autoscaling", "disruption", "drain")
    return obj(
        {
            "run": text(enum=["auto", "always", "never"]),
            "scratchSize": MEMORY,
            "keda": obj(
                {name: schema for name, schema in KEDA["properties"].items() if name not in ("group", "topics")}
            ),
            **{name: ingest[name] for name in own},
        }
    )


def base() -> Schema:
    timeouts = obj({"request": text(), "backendRequest": text()})
    priority = obj({"name": NAME, "value": integer(1)}, "name", "value")
    properties: Schema = {
        "global": shared(),
        "lakegate-lib": FOREIGN,
        "enabled": FLAG,
        "mode": text(enum=["single", "blueGreen"]),
        "activeService": SERVICE,
        "rollout": obj({"image": IMAGE, "keySecret": NAME, "apiServer": PEERS}),
        "ingress": obj(
            {
                "enabled": FLAG,
                "className": text(),
                "host": text(pattern=f"^({HOST_PATTERN})?$", maxLength=253),
                "annotations": STRINGS,
                "tls": obj({"secretName": text()}),
            }
        ),
        "httpRoute": obj(
            {
                "enabled": FLAG,
                "parentRefs": FOREIGNS,
                "hostnames": listed(text(pattern=f"^{HOST_PATTERN}$", maxLength=253)),
                "annotations": STRINGS,
                "timeouts": timeouts,
            }
        ),
        "provision": obj(
            {
                "enabled": FLAG,
                "image": IMAGE,
                "admin": SECRET_KEY,
                "services": obj(dict.fromkeys(SERVICES, SECRET_KEY), *SERVICES),
                "resources": RESOURCES,
            }
        ),
        "warehouseVolume": obj(
            {
                "create": FLAG,
                "size": text(pattern="^[1-9][0-9]*(Mi|Gi|Ti)$"),
                "storageClass": text(),
                "accessModes": listed(text(enum=["ReadWriteOnce", "ReadWriteMany"]), minItems=1),
            }
        ),
        "networkPolicies": obj(
            {
                "enabled": FLAG,
                "gatewayFrom": FOREIGNS,
                "monitoringFrom": FOREIGNS,
                "dns": PEERS,
                **dict.fromkeys(("postgres", "kafka", "mongodb", "objectStore", "traces"), PEERS),
            }
        ),
        "priorityClasses": obj({"create": FLAG, "front": priority, "work": priority}),
        "quota": obj({"enabled": FLAG, "hard": FOREIGN, "containerDefaults": FOREIGN}),
        "rules": obj({"labels": STRINGS, "runbookUrl": text(pattern=r"^(https?://\S+)?$")}),
        "dashboards": obj({"labels": STRINGS}),
    }
    return document("Values of what carries no version", properties)


def umbrella() -> Schema:
    # each chart's own schema says what may be in its part
    parts = dict.fromkeys(("base", *SERVICES), FOREIGN)
    smoke = obj({"enabled": FLAG, "image": IMAGE, "key": SECRET_KEY, "resources": RESOURCES})
    return document("Values of Lakegate", {"global": shared(), "lakegate-lib": FOREIGN, **parts, "smokeTest": smoke})


def document(title: str, properties: Schema) -> Schema:
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": title, **obj(properties)}


def demanded(schema: Schema, defaults: dict[str, Any]) -> Schema:
    """The schema with what has a default as required: `null` takes a default away, and templates would stumble there.

    Texts and lists may go: the templates take nothing for an empty one.
    """
    parts, required = dict(schema["properties"]), set(schema.get("required", []))
    for name, default in defaults.items():
        if name in MAY_GO:
            continue
        if name in STAYS:
            required.add(name)
        elif isinstance(default, dict) and "properties" in parts[name]:
            parts[name] = demanded(parts[name], default)
            required.add(name)
        elif isinstance(default, int | float):
            required.add(name)
    return {**schema, "properties": parts, **({"required": sorted(required)} if required else {})}


def generated() -> dict[Path, str]:
    """Each file and what should be in it."""
    schemas = {
        **{name: service(name) for name in SERVICES},
        "lakegate-base": base(),
        "lakegate": umbrella(),
    }
    return {
        HERE / chart / "values.schema.json": json.dumps(demanded(schema, _defaults(chart)), indent=1) + "\n"
        for chart, schema in schemas.items()
    }


def _defaults(chart: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((HERE / chart / "values.yaml").read_text())
    return found


def main() -> None:
    for path, content in generated().items():
        path.write_text(content)
        sys.stdout.write(f"{path.relative_to(HERE)}\n")


if __name__ == "__main__":
    main()
