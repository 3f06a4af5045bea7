"""Lakegate's command line, and its Python client: `lakegate.Client` and `lakegate.AsyncClient`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakegate.client import AsyncClient as AsyncClient
    from lakegate.client import Client as Client
    from lakegate.client import LakegateError as LakegateError
    from lakegate.client import ProblemError as ProblemError

    __version__: str

__all__ = ["AsyncClient", "Client", "LakegateError", "ProblemError", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lakegate")
    # PEP 562: `lakegate --help` and shell completion must not pay the 0.2 s that httpx and pydantic take to import.
    if name in __all__:
        from lakegate import client

        return getattr(client, name)
    raise AttributeError(f"module 'lakegate' has no attribute '{name}'")
