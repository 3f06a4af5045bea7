"""What has been verified a moment ago, by the hash of the credential."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from lakegate_chassis.metrics import CACHE_ENTRIES, CACHE_LOOKUPS
from lakegate_contracts.identity import Principal

KEEP_SECONDS = 10.0
MAX_ENTRIES = 10_000
_CACHE = "credentials"
_HITS, _MISSES = CACHE_LOOKUPS.labels(_CACHE, "hit"), CACHE_LOOKUPS.labels(_CACHE, "miss")


@dataclass(frozen=True, slots=True)
class Verified:
    """`key_id` is of the API key, or `credential_id` of the password or secret.

    `until` it is kept, `ends` the credential itself: both by the monotonic clock.
    """

    principal: Principal
    until: float
    key_id: UUID | None = None
    credential_id: UUID | None = None
    ends: float = math.inf


class VerificationCache:
    """At most MAX_ENTRIES, each for min(its expiry, KEEP_SECONDS); a revocation takes its entries out at once.

    Other replicas are told by an event, and without it notice when their entry ends, KEEP_SECONDS later at most.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._entries: OrderedDict[bytes, Verified] = OrderedDict()
        self._max = max_entries
        CACHE_ENTRIES.labels(_CACHE).set_function(self.__len__)
        # counts revocations: what was looked up before one may not be kept, or joined, after it
        self.generation = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes) -> Verified | None:
        entry = self._entries.get(digest)
        if entry is not None and entry.until > time.monotonic():
            _HITS.inc()
            return entry
        _MISSES.inc()
        if entry is not None:
            del self._entries[digest]
        return None

    def put(
        self,
        digest: bytes,
        principal: Principal,
        *,
        valid_seconds: float,
        key_id: UUID | None = None,
        credential_id: UUID | None = None,
    ) -> Verified:
        now = time.monotonic()
        until = now + min(valid_seconds, KEEP_SECONDS)
        entry = Verified(principal, until, key_id, credential_id, ends=now + valid_seconds)
        self._entries[digest] = entry
        while len(self._entries) > self._max:
            self._entries.popitem(last=False)
        return entry

    def forget(self, key_id: UUID) -> None:
        """Take out whatever this API key verified."""
        self._drop(lambda entry: entry.key_id == key_id)

    def forget_subject(self, tenant: str, subject: str) -> None:
        """Take out whatever a user or client proved with password or token."""
        self._drop(lambda entry: entry.principal.tenant == tenant and entry.principal.subject == subject)

    def clear(self) -> None:
        """Take everything out."""
        self._drop(lambda _: True)

    def _drop(self, revoked: Callable[[Verified], bool]) -> None:
        self.generation += 1
        for digest in [digest for digest, entry in self._entries.items() if revoked(entry)]:
            del self._entries[digest]
