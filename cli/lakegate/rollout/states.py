"""What a rollout remembers. It is one annotation of the active Service, so a switch and its record are one write."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

# What the driver reads of a new colour: each is relayed to a service that asks its database. Scopes: datasets:read and
# lineage:read. A list may be empty, but has to be answered.
READS = (
    "/v1/datasets?limit=1",
    "/v1/loads?limit=1",
    "/v1/runs?limit=1",
    "/v1/jobs?limit=1",
)
# Its index is built as a pod starts: asked until it is there, and no part of what every pod has to answer at once.
SEARCH = "/v1/search?limit=1"
MOST_HISTORY = 20  # annotations of an object share 256 KiB; an entry has at most about 1 KiB
_REASON_CHARACTERS = 400


class Phase(StrEnum):
    """Where a rollout stands. Each can be entered again by a driver that knows nothing but this."""

    PENDING = "pending"  # claimed; nothing has been touched
    PREPARING = "preparing"  # the new colour comes up at the old one's replica count
    TESTING = "testing"  # smoke test and synthetic load on its preview Service
    CANARY = "canary"  # a share of the traffic, by weight
    WAITING = "waiting"  # for `promote`
    HANDOVER = "handover"  # the old colour's consumers stop, the new one's start
    SWITCHING = "switching"  # one last look, then the selector
    CONFIRMING = "confirming"  # until the EndpointSlices hold the new colour and nothing else
    WATCHING = "watching"  # the window in which trouble rolls back
    RETIRING = "retiring"  # rollback is closed; the old colour goes to zero
    REVERTING = "reverting"  # the selector goes back as soon as the old colour is seen to be whole
    RESTORING = "restoring"  # weights and consumers go back to the old colour
    CLEANING = "cleaning"  # the new colour goes to zero
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"

    @property
    def is_over(self) -> bool:
        return self in (Phase.PROMOTED, Phase.ROLLED_BACK)

    @property
    def can_be_aborted(self) -> bool:
        return self in _FORWARD


_FORWARD = frozenset(
    {
        Phase.PENDING,
        Phase.PREPARING,
        Phase.TESTING,
        Phase.CANARY,
        Phase.WAITING,
        Phase.HANDOVER,
        Phase.SWITCHING,
        Phase.CONFIRMING,
        Phase.WATCHING,
    }
)


class Request(StrEnum):
    """What a person asked of a running rollout; the driver takes it up at its next step."""

    PROMOTE = "promote"
    ABORT = "abort"


# 50 of them have to fit into the annotation
Path = Annotated[str, Field(max_length=1000)]


class _Frozen(BaseModel):
    # a driver of the next release may have written more than this one knows
    model_config = ConfigDict(frozen=True, extra="ignore")


class Options(_Frozen):
    """How careful to be; written once, by `start`. Seconds and shares are bounded, so every wait ends."""

    prepare_seconds: float = Field(default=600, gt=0, le=7200, description="for the new colour to be whole")
    stuck_seconds: float = Field(default=60, gt=0, le=3600, description="an image that can't start is given up on")
    smoke_attempts: int = Field(default=30, ge=1, le=300, description="a second apart")
    reads: tuple[Path, ...] = Field(
        default=READS, min_length=1, max_length=50, description="by smoke test, load, watch"
    )
    load_requests: int = Field(default=300, ge=1, le=100_000, description="the minimum sample")
    load_concurrency: int = Field(default=8, ge=1, le=256)
    load_seconds: float = Field(default=60, gt=0, le=1800, description="no sample by then is a failure")
    slow_seconds: float = Field(default=1.0, gt=0, le=60, description="an answer that took longer is slow")
    failed_share: float = Field(default=0.01, ge=0, le=1, description="most of the sample that may fail")
    slow_share: float = Field(default=0.05, ge=0, le=1, description="most of the sample that may be slow")
    canary: tuple[int, ...] = Field(default=(), max_length=10, description="percentages; none: no canary")
    canary_seconds: float = Field(default=60, gt=0, le=7200, description="at each of them")
    route: str | None = Field(default=None, description="the HTTPRoute whose weights a canary sets")
    wait_for_promote: bool = False
    handover_seconds: float = Field(default=60, gt=0, le=600)
    hand_over_consumers: bool = True
    confirm_seconds: float = Field(default=60, gt=0, le=600)
    watch_seconds: float = Field(default=120, ge=0, le=86_400)
    watch_requests: int = Field(default=100, ge=1, le=100_000, description="no good verdict on fewer of our own")
    least_failures: int = Field(default=5, ge=1, le=1000, description="a bad verdict needs so many, on any sample")
    grace_seconds: float = Field(default=10, ge=0, le=600, description="the new colour may be short of a pod so long")
    drain_seconds: float = Field(default=10, ge=0, le=600, description="before a colour without traffic goes to zero")

    @model_validator(mode="after")
    def _canary_is_whole(self) -> Options:
        if self.canary and self.route is None:
            raise ValueError("a canary needs the name of an HTTPRoute")
        if any(not 0 < share < 100 for share in self.canary) or list(self.canary) != sorted(set(self.canary)):
            raise ValueError("canary percentages rise, between 1 and 99")
        return self


class Answers(_Frozen):
    """What a gateway answered, by what it means to judge it. 429 and the like are neither here nor there: `ok`."""

    ok: int = 0
    failed: int = Field(default=0, description="5xx")
    refused: int = Field(default=0, description="401 and 403")
    missing: int = Field(default=0, description="404")
    rejected: int = Field(default=0, description="other 4xx, but for 429")

    @classmethod
    def of(cls, status: str, count: int = 1) -> Answers:
        if status.startswith("5"):
            return cls(failed=count)
        if status in ("401", "403"):
            return cls(refused=count)
        if status == "404":
            return cls(missing=count)
        return cls(rejected=count) if status.startswith("4") and status != "429" else cls(ok=count)

    @property
    def requests(self) -> int:
        return sum(self.model_dump().values())

    def __add__(self, more: Answers) -> Answers:
        other = more.model_dump()
        return Answers(**{name: count + other[name] for name, count in self.model_dump().items()})

    def __sub__(self, less: Answers) -> Answers:
        """Never below zero: what is taken away may be known before it is counted."""
        other = less.model_dump()
        return Answers(**{name: max(0, count - other[name]) for name, count in self.model_dump().items()})


class Rollout(_Frozen):
    """One rollout, perhaps as an older driver wrote it.

    `epoch` rises with each driver that takes it on: the one before can't write any more.
    """

    id: str
    from_colour: str | None
    to_colour: str
    version: str = ""
    previous_version: str = ""
    phase: Phase = Phase.PENDING
    options: Options = Options()
    started_at: datetime
    phase_at: datetime
    switched_at: datetime | None = None
    by: str = ""
    driver: str = ""
    epoch: int = 0
    requested: Request | None = None
    reason: str = ""
    floors: dict[str, int] = {}
    canary_step: int = 0
    # what the old colour answered its clients before the switch; None: not known, and not compared with
    usual: Answers | None = None
    notes: tuple[str, ...] = ()

    def into(self, phase: Phase, now: datetime, *, reason: str = "", **changes: object) -> Rollout:
        """The rollout in another phase. The first reason stays: it is why the way back was taken."""
        kept = self.reason or reason[:_REASON_CHARACTERS]
        return self.model_copy(update={"phase": phase, "phase_at": now, "reason": kept, **changes})

    def noted(self, note: str) -> Rollout:
        """With a line for whoever looks later; the last 10 stay."""
        return self.model_copy(update={"notes": (*self.notes, note[:_REASON_CHARACTERS])[-10:]})


class HistoryEntry(_Frozen):
    """A rollout that is over."""

    id: str
    from_colour: str | None
    to_colour: str
    version: str
    previous_version: str
    outcome: Phase
    reason: str
    by: str
    started_at: datetime
    ended_at: datetime

    @classmethod
    def of(cls, rollout: Rollout) -> HistoryEntry:
        return cls(
            id=rollout.id,
            from_colour=rollout.from_colour,
            to_colour=rollout.to_colour,
            version=rollout.version,
            previous_version=rollout.previous_version,
            outcome=rollout.phase,
            reason=rollout.reason,
            by=rollout.by,
            started_at=rollout.started_at,
            ended_at=rollout.phase_at,
        )
