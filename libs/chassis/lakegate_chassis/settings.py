"""Settings every service has, read from the environment and checked before anything starts."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

# each class multiplies the series of the request metrics
MAX_TENANT_CLASSES = 16
_CLASS = re.compile(r"[a-z][a-z0-9_-]{0,31}")
EX_CONFIG = 78  # sysexits.h: something was found in an unconfigured or misconfigured state


class Section(BaseModel):
    """A group of settings; its fields are read as `{PREFIX}_{SECTION}__{FIELD}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresSettings(Section):
    url: SecretStr = Field(description="postgresql://user:password@host:port/database of the application role")
    pool_min: int = Field(default=1, ge=0, le=100, description="connections kept open")
    pool_max: int = Field(
        default=8,
        ge=1,
        le=100,
        description="connections at most; 4 services x 8 stay under PostgreSQL's default 100 with two colours live",
    )
    statement_timeout_seconds: float = Field(default=30, gt=0, description="a statement running longer is cancelled")


class TraceSettings(Section):
    endpoint: str | None = Field(default=None, description="OTLP/HTTP traces endpoint; none: spans stay local")
    sample_ratio: float = Field(default=0.1, ge=0, le=1, description="share of new traces that are recorded")
    client_sampled_per_second: float = Field(
        default=10,
        ge=0,
        description="at the gateway: traces recorded since the client's traceparent asks for it, beside that share",
    )
    headers: SecretStr | None = Field(
        default=None, description="sent with every export, e.g. for a login: `name=value,name=value`"
    )
    ca_file: FilePath | None = Field(default=None, description="authorities (PEM) of the endpoint; none: the system's")
    timeout_seconds: float = Field(default=5, gt=0, le=30, description="an export that takes longer has failed")
    export_seconds: float = Field(
        default=5, gt=0, le=60, description="spans are exported this often, or when 512 wait; each export costs 2 ms"
    )
    queue_spans: int = Field(default=4096, ge=64, le=1 << 20, description="spans that may wait; more are dropped")
    compress: bool = Field(default=False, description="gzip what is exported; costs CPU, saves traffic")

    @field_validator("headers")
    @classmethod
    def _are_pairs(cls, headers: SecretStr | None) -> SecretStr | None:
        if headers is not None and not all(pair.partition("=")[0].strip() for pair in _pairs(headers)):
            raise ValueError("headers are name=value, joined with commas")
        return headers

    def header_pairs(self) -> dict[str, str]:
        """`headers` by name."""
        pairs = (pair.partition("=") for pair in _pairs(self.headers)) if self.headers else ()
        return {name.strip(): value.strip() for name, _, value in pairs}


def _pairs(headers: SecretStr) -> list[str]:
    return headers.get_secret_value().split(",")


class InternalTokenSettings(Section):
    jwks: FilePath = Field(
        description="file with the public keys (JWKS) that sign internal tokens; reread when it changes"
    )


class KafkaSettings(Section):
    """With `bootstrap` set, events travel through Kafka; without it, PostgreSQL is the whole event log."""

    bootstrap: str | None = Field(default=None, description="host:port of brokers, joined with commas; none: no Kafka")
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="security protocol of the brokers' listener"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="how to log in with SASL_*"
    )
    username: str | None = Field(default=None, description="user of SASL_*")
    password: SecretStr | None = Field(default=None, description="password of SASL_*")
    ca_file: FilePath | None = Field(default=None, description="authorities (PEM) for TLS; none: the system's")
    certificate_file: FilePath | None = Field(default=None, description="our certificate (PEM), for mutual TLS")
    key_file: FilePath | None = Field(default=None, description="its private key (PEM)")
    replication: int = Field(default=1, ge=1, description="replicas of a topic we make; 3 where nothing may be lost")
    partitions: int = Field(default=6, ge=1, description="of a topic that the contracts don't declare")
    max_event_bytes: int = Field(
        default=16 << 20, ge=1 << 20, description="largest record; a larger event becomes a dead letter"
    )
    session_seconds: float = Field(
        default=10, ge=1, description="a consumer silent for so long loses its partitions to the others"
    )
    request_seconds: float = Field(
        default=30, ge=1, description="a broker that doesn't answer a request for so long is called again"
    )

    @model_validator(mode="after")
    def _login_is_whole(self) -> KafkaSettings:
        if self.security.startswith("SASL") and (self.username is None or self.password is None):
            raise ValueError(f"security {self.security} needs a username and a password")
        return self


class ConsumerSettings(Section):
    """With two colours alive, the consumers of one run. Without a colour this process always consumes."""

    colour: str | None = Field(default=None, max_length=63, description="colour of this release, blue or green")
    file: Path | None = Field(
        default=None, description="file that says which colour consumes, a mounted ConfigMap; reread when it changes"
    )
    poll_seconds: float = Field(default=5, gt=0, le=300, description="how often that file is read again")
    key_file: Path | None = Field(
        default=None,
        description="key that the driver of a rollout signs its decisions with, a mounted Secret; without it only what "
        "the file says counts",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> ConsumerSettings:
        if (self.colour is None) != (self.file is None):
            raise ValueError("colour and file go together: a process that starts has to know whose turn it is")
        return self


class ServiceSettings(BaseSettings):
    """What every service reads; subclasses add their own and set the prefix with `settings_config`."""

    host: str = Field(default="127.0.0.1", description="address of the API")
    port: int = Field(ge=0, le=65535, description="port of the API")
    management_host: str = Field(default="127.0.0.1", description="address of the management listener")
    management_port: int = Field(ge=0, le=65535, description="port for /metrics and /loglevel; never exposed")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="at start")
    log_format: Literal["json", "console"] = Field(default="json", description="console is for people")
    tenant_classes: dict[str, str] = Field(
        default={},
        description='tenant to class as JSON, `{"acme": "gold"}`: a label of request metrics; others are `standard`',
    )
    environment: str = Field(default="embedded", description="name of the environment, a label of build info")
    drain_seconds: float = Field(
        default=2.0,
        ge=0,
        le=60,
        description="after SIGTERM, how long answers say `Connection: close` before the exit",
    )
    finish_seconds: int = Field(
        default=35,
        ge=1,
        le=3600,
        description="after that, how long requests under way may take to end, then they are cut off; waits last 30 s "
        "at most, uploads and downloads as long as their clients need",
    )
    max_connections: int = Field(
        default=2048, ge=1, description="requests served at once; more are answered 503, health is exempt"
    )
    sweeps_in_process: bool = Field(
        default=True,
        description="whether this process deletes what is over, too (retention, leftovers); off where "
        "`python -m lakegate_<service>.sweep` does so once in a while, as the charts' CronJobs",
    )
    postgres: PostgresSettings
    trace: TraceSettings = TraceSettings()

    @field_validator("tenant_classes")
    @classmethod
    def _are_few(cls, classes: dict[str, str]) -> dict[str, str]:
        names = set(classes.values())
        if len(names) > MAX_TENANT_CLASSES or not all(map(_CLASS.fullmatch, names)):
            raise ValueError(
                f"there may be {MAX_TENANT_CLASSES} classes, each a word of a-z, 0-9, - and _ of at most 32 characters"
            )
        return classes


class BackendSettings(ServiceSettings):
    """A service behind the gateway: it takes internal tokens and nothing else."""

    token: InternalTokenSettings
    kafka: KafkaSettings = KafkaSettings()
    consumers: ConsumerSettings = ConsumerSettings()


def settings_config(prefix: str) -> SettingsConfigDict:
    """The model_config of a service's settings: frozen, `{prefix}A__B` nested, unknown variables refused."""
    return SettingsConfigDict(
        env_prefix=prefix, env_nested_delimiter="__", frozen=True, extra="forbid", case_sensitive=False
    )


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Read the settings or end the process with exit code 78 and one line for each bad variable."""
    try:
        read, faults = settings(), unknown(settings)
    except ValidationError as error:
        read, faults = None, [*explain(settings, error), *unknown(settings)]
    if read is None or faults:
        for line in faults:
            print(line, file=sys.stderr)  # noqa: T201 - logging is not configured yet
        sys.exit(EX_CONFIG)
    return read


def unknown(settings: type[BaseSettings]) -> list[str]:
    """Variables with the service's prefix that name no setting: a typo would be ignored silently.

    Nested ones are refused by the section itself.
    """
    prefix = settings.model_config.get("env_prefix", "").upper()
    fields = {name.upper() for name in settings.model_fields}
    found = [name for name in map(str.upper, os.environ) if name.startswith(prefix)]  # noqa: TID251 - this is settings
    strange = sorted(name for name in found if name.removeprefix(prefix).partition("__")[0] not in fields)
    return [f"setting {name}: there is no such setting; see docs/settings.md" for name in strange]


def explain(settings: type[BaseSettings], error: ValidationError) -> list[str]:
    """One sentence for each bad variable; values are left out, since they may be secrets."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in item["loc"]]
        variables = _required_below(settings, path) if item["type"] == "missing" else [path]
        lines += [f"setting {prefix}{'__'.join(variable).upper()}: {item['msg']}" for variable in variables]
    return lines


def _required_below(model: type[BaseModel], path: list[str]) -> list[list[str]]:
    """The variables that have to be set when `path` is missing: itself, or the required fields of its section."""
    field = model.model_fields.get(path[0])
    section = field.annotation if field else None
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return [path]
    if len(path) > 1:
        return [path[:1] + rest for rest in _required_below(section, path[1:])]
    return [[*path, name] for name, info in section.model_fields.items() if info.is_required()]


def as_environment(settings: BaseSettings) -> dict[str, str]:
    """This process's environment with these very settings in it, secrets included: for a child that reads the same."""
    prefix = str(settings.model_config.get("env_prefix", "")).upper()
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(prefix)}  # noqa: TID251
    return others | dict(_variables(prefix, settings))


def _variables(prefix: str, section: BaseModel) -> Iterator[tuple[str, str]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        variable = f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _variables(f"{variable}__", value)
        elif isinstance(value, SecretStr):
            yield variable, value.get_secret_value()
        elif isinstance(value, dict | list | tuple):
            yield variable, json.dumps(value)
        elif value is not None:
            yield variable, str(value)
