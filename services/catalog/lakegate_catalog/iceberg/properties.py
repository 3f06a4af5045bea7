"""Properties that clients may not set: those that tell an engine which code to run, or where and as whom to read."""

from __future__ import annotations

from collections.abc import Mapping

from lakegate_catalog.iceberg.dialect import BadRequest

_PREFIXES = (
    "py-", "s3.", "s3a.", "s3tables.", "gcs.", "gs.", "adls.", "adlfs.", "abfs.", "azure.", "wasb.", "hdfs.", "hf.",
    "fs.", "io.", "client.", "header.", "rest.", "rest-", "oauth2", "auth.", "ssl.", "glue.", "dynamodb.", "hadoop.",
)  # fmt: skip
_NAMES = ("io-impl", "catalog-impl", "warehouse", "uri", "token", "credential", "credentials", "scope", "prefix")
# py-io-impl, write.py-location-provider.impl and their like: each names a class that an engine would load
_SUFFIXES = ("-impl", ".impl")


def check_properties(properties: Mapping[str, str]) -> None:
    """Raises BadRequest for the first key that only the operator of the warehouse may set."""
    for key in properties:
        plain = key.strip().lower()
        if plain in _NAMES or plain.startswith(_PREFIXES) or plain.endswith(_SUFFIXES):
            raise BadRequest(
                f"The property {key[:200]!r} can't be set: how files are reached is for the server's settings to say."
            )
