"""How a rollout fails.

RolloutError
├── NoCluster         no kubeconfig and no ServiceAccount
├── NotPossible       what was asked for can't be done now; the message says why
├── LostLease         another driver acts: this one must not write any more
└── ApiError
    ├── ApiAway       no answer, or one that says later: try again
    ├── Conflict      the object is not as it was when we looked: look again
    ├── NotFound
    ├── Forbidden     the ServiceAccount lacks a right
    └── Refused       the API server will not have it
"""

from __future__ import annotations


class RolloutError(Exception):
    """The message is for a person."""


class NoCluster(RolloutError):
    pass


class NotPossible(RolloutError):
    pass


class LostLease(RolloutError):
    pass


class ApiError(RolloutError):
    pass


class ApiAway(ApiError):
    pass


class Conflict(ApiError):
    pass


class NotFound(ApiError):
    pass


class Forbidden(ApiError):
    pass


class Refused(ApiError):
    pass
