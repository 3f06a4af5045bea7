"""Everything the gateway reads from its environment (prefix GATEWAY_)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from lakegate_chassis.settings import Section, ServiceSettings, settings_config
from lakegate_gateway.routes import MIB

KEY_PREFIX = "lgk_"


class KeySettings(Section):
    private_key: Path = Field(
        description="Ed25519 private key, PKCS#8 PEM, or a folder of them: the last by name signs, the others still "
        "verify; reread when it changes (see signing-keys.md)"
    )

    @field_validator("private_key")
    @classmethod
    def _is_there(cls, path: Path) -> Path:
        if not path.exists():
            raise ValueError("there is no such file or folder; `python -m lakegate_gateway.keygen DIR` makes one")
        return path


class BootstrapSettings(Section):
    key: SecretStr | None = Field(default=None, description="an API key (lgk_…) with the scope admin, made at start")
    reader_key: SecretStr | None = Field(
        default=None,
        description="another one with the scopes datasets:read and lineage:read: what drives a rollout reads with it",
    )
    tenant: str = Field(default="default", description="whose keys they are")

    @field_validator("key", "reader_key")
    @classmethod
    def _is_hard_to_guess(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not (
            key.get_secret_value().startswith(KEY_PREFIX) and len(key.get_secret_value()) >= 36
        ):
            raise ValueError(f"a key starts with {KEY_PREFIX} and has 36 characters or more")
        return key

    @model_validator(mode="after")
    def _are_two(self) -> BootstrapSettings:
        if self.key is not None and self.key == self.reader_key:
            raise ValueError("key and reader_key are the same: one may do everything, the other only read")
        return self


class IssuerSettings(Section):
    url: str = Field(
        default="http://127.0.0.1:8080",
        description="the gateway's address as clients know it: `iss` of access tokens",
    )
    access_token_seconds: int = Field(default=3600, ge=1, le=86_400, description="how long an access token is valid")
    refresh_token_seconds: int = Field(default=30 * 86_400, ge=1, description="how long a login can be renewed")


class LimitSettings(Section):
    load_bytes: int = Field(default=100 * 1024 * MIB, ge=1, description="largest body of one load")
    own_bytes: int = Field(
        default=64 * 1024, ge=1024, description="largest body of what the gateway serves itself: keys, users, tokens"
    )
    client_idle_seconds: float = Field(default=30, gt=0, description="a client that sends nothing for so long: 408")
    client_min_bytes_per_second: int = Field(
        default=1024, ge=0, description="a body slower than this on average, after client_grace_seconds: 408"
    )
    client_grace_seconds: float = Field(default=20, gt=0, description="how long a body may be slow")
    discard_bytes: int = Field(
        default=8 * MIB, ge=0, description="read and thrown away after an early answer, so that the client sees it"
    )
    discard_seconds: float = Field(default=2, ge=0, description="and for how long")
    upstream_connections: int = Field(default=1024, ge=1, description="requests under way to one service; then 503")
    sockets: int = Field(default=1024, ge=1, description="WebSockets relayed at once by one replica; then 503")
    sockets_per_tenant: int = Field(default=512, ge=1, description="of these, at most so many of one tenant")
    event_streams: int = Field(
        default=1024, ge=1, description="event streams (SSE: tails, progress) relayed at once by one replica; then 503"
    )
    event_streams_per_tenant: int = Field(default=256, ge=1, description="of these, at most so many of one tenant")
    socket_message_bytes: int = Field(default=1 * MIB, ge=1024, description="largest message of a WebSocket")
    login_attempts_per_minute: int = Field(
        default=20, ge=1, description="failed logins of one name from one address; then 429"
    )


class GatewaySettings(ServiceSettings):
    model_config = settings_config("GATEWAY_")

    port: int = Field(default=8080, ge=0, le=65535, description="port of the API")
    management_port: int = Field(
        default=9080, ge=0, le=65535, description="port of /internal/token, /metrics and /loglevel; never exposed"
    )
    catalog_url: str = Field(default="http://127.0.0.1:8081", description="base URL of the catalog service")
    ingest_url: str = Field(default="http://127.0.0.1:8082", description="base URL of the ingest service")
    lineage_url: str = Field(default="http://127.0.0.1:8083", description="base URL of the lineage service")
    token: KeySettings
    bootstrap: BootstrapSettings = BootstrapSettings()
    issuer: IssuerSettings = IssuerSettings()
    limits: LimitSettings = LimitSettings()

    @property
    def upstreams(self) -> dict[str, str]:
        """Base URL of each service by its name."""
        return {"catalog": self.catalog_url, "ingest": self.ingest_url, "lineage": self.lineage_url}
