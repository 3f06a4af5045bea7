"""The token endpoint on the wire (RFC 6749, RFC 8693)."""

from __future__ import annotations

from pydantic import BaseModel, Field


class TokenAnswer(BaseModel):
    access_token: str
    token_type: str = "Bearer"
    expires_in: int = Field(description="seconds")
    scope: str
    refresh_token: str | None = None
    issued_token_type: str = Field(
        default="urn:ietf:params:oauth:token-type:access_token", description="Iceberg clients ask for it"
    )


class OAuthProblem(BaseModel):
    error: str = Field(examples=["invalid_grant"])
    error_description: str


class ExchangeAnswer(BaseModel):
    access_token: str
    issued_token_type: str = "urn:ietf:params:oauth:token-type:jwt"
    token_type: str = "Bearer"
    expires_in: int
