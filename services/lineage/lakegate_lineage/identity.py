"""Ids that follow from names: the same on every replica, in every order of arrival, without a lookup."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from uuid import UUID, uuid5

_NODES = UUID("7b6f0a52-6f0e-5c1e-9f3b-2f6a51d0c3aa")

# NUL can't stand in a name, so the joined text is unambiguous


@lru_cache(maxsize=65536)
def job_id(namespace: str, name: str) -> UUID:
    return uuid5(_NODES, f"job\0{namespace}\0{name}")


@lru_cache(maxsize=65536)
def dataset_id(namespace: str, name: str) -> UUID:
    return uuid5(_NODES, f"dataset\0{namespace}\0{name}")


def run_key(job: UUID, run_id: UUID) -> UUID:
    """What a run is stored under. Its job is part of it, so that nobody takes over a run by naming its id.

    Migration 0002 computes the same in SQL.
    """
    return UUID(bytes=sha256(job.bytes + run_id.bytes).digest()[:16])


def external_run_id(job_namespace: str, job_name: str, run_id: str) -> UUID:
    """The UUID of a run whose producer sent none."""
    return uuid5(_NODES, f"run\0{job_namespace}\0{job_name}\0{run_id}")
