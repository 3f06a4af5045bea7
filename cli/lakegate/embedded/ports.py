"""Which ports a suite takes, and a clear word when one is taken."""

from __future__ import annotations

import itertools
import random
import socket
import sys
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

HOST = "127.0.0.1"
SERVICES = ("gateway", "catalog", "ingest", "lineage")
DEFAULT_BASE = 8080
# Management listeners are 1,000 above their API: 8080 has 9080.
_MANAGEMENT = 1000
# Linux gives outgoing connections 32768 and above, macOS 49152.
_FREE_RANGE = range(15_000, 32_000)
# One after the other from anywhere in it: none is given twice before its taker listens.
_TURNS = itertools.count(random.randrange(len(_FREE_RANGE)))  # noqa: S311 - no secret
# Nor to another program that asks in those seconds; whoever asked so many times since has taken what he asked for.
_MOST_CLAIMS = 64
_CLAIMS: deque[socket.socket] = deque()


class PortTaken(Exception):
    """The message names the port, who wanted it and how to choose others."""


@dataclass(frozen=True)
class Ports:
    """The API and the management port of each service."""

    api: dict[str, int]
    management: dict[str, int]

    @classmethod
    def from_base(cls, base: int) -> Ports:
        """The gateway on `base`, the others above it; 0 takes any free ones."""
        if base == 0:
            free = iter(free_ports(2 * len(SERVICES)))
            return cls({name: next(free) for name in SERVICES}, {name: next(free) for name in SERVICES})
        api = {name: base + offset for offset, name in enumerate(SERVICES)}
        return cls(api, {name: port + _MANAGEMENT for name, port in api.items()})

    def check(self) -> None:
        """Raises PortTaken for the first port that something listens on."""
        for ports, what in ((self.api, "API"), (self.management, "management listener")):
            for name, port in ports.items():
                if not is_free(port):
                    raise PortTaken(
                        f"Port {port} is in use by another program; the {name}'s {what} needs it. "
                        f"Choose others with --port {_suggest(port)} (the gateway takes that one, the rest follow), "
                        f"or --port 0 for any free ones; by make: PORT={_suggest(port)}."
                    )


def free_ports(count: int) -> list[int]:
    """Distinct ports that were free just now.

    Below the range from which kernels take ports for outgoing connections, of which our own services open many
    before the last of them listens.
    """
    found: set[int] = set()
    while len(found) < count:
        port = _FREE_RANGE[next(_TURNS) % len(_FREE_RANGE)]
        if is_free(port) and _claimed(port):
            found.add(port)
    return list(found)


def _claimed(port: int) -> bool:
    """Whether nobody else of ours is about to listen there: a name that the kernel keeps as long as this process."""
    if sys.platform != "linux":
        return True  # no such names: two programs that begin in the same second are hardly at the same place
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0lakegate-port-{port}")
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    if len(_CLAIMS) > _MOST_CLAIMS:
        _CLAIMS.popleft().close()
    return True


def is_somebodys(url: str) -> bool:
    """Whether a saved address is one to keep: not on this machine, or something listens there now."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return True
    return parts.hostname not in (HOST, "localhost") or not is_free(port)


def is_free(port: int) -> bool:
    """Whether nothing listens there."""
    with socket.socket() as probe:
        # As the servers do: a connection in TIME_WAIT does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _suggest(port: int) -> int:
    """The next base whose four API and four management ports are free."""
    base = max(1024, port // 100 * 100)
    while base < 60_000:
        base += 100
        ports = Ports.from_base(base)
        if all(is_free(taken) for taken in (*ports.api.values(), *ports.management.values())):
            return base
    return 0
