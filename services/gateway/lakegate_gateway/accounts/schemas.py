"""Users and clients on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, SecretStr

_NAME = r"^[^\s:\x00-\x1f\x7f]{1,200}$"  # Basic separates name and password with a colon


class UserCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    username: str = Field(pattern=_NAME, examples=["ada"])
    password: SecretStr = Field(min_length=12, max_length=1024)
    scopes: list[str] = Field(min_length=1, max_length=64, examples=[["datasets:read", "loads:write@travel.*"]])


class User(BaseModel):
    username: str
    scopes: tuple[str, ...]


class ListedUser(User):
    created_at: datetime


class UserPage(BaseModel):
    items: list[ListedUser]
    next: str | None = Field(description="link to the next page")


class PasswordChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    password: SecretStr = Field(min_length=12, max_length=1024)


class ClientCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    client_id: str = Field(pattern=_NAME, examples=["airflow"])
    scopes: list[str] = Field(min_length=1, max_length=64, examples=[["lineage:write"]])


class ListedClient(BaseModel):
    client_id: str
    scopes: tuple[str, ...]
    created_at: datetime


class ClientPage(BaseModel):
    items: list[ListedClient]
    next: str | None = Field(description="link to the next page")


class ClientCreated(BaseModel):
    client_id: str
    scopes: tuple[str, ...]
    client_secret: str = Field(description="shown this once")
