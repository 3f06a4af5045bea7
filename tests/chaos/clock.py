"""Another clock for one service: libfaketime, with the monotonic clock left alone, as a wrong NTP would have it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from chaos.ledger import Ledger, Refusal, now
from chaos.suite import Stage

# The chassis lets this much go unnoticed (lakegate_chassis.tokens.LEEWAY_SECONDS).
LEEWAY_SECONDS = 30
SECONDS = 10.0
# The supervisor's longest pause and the breakers' are within that.
_HEARD_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


def library() -> Path | None:
    return next((path for place in _PLACES for path in sorted(Path("/").glob(place.lstrip("/")))), None)


def skewed(service: str, seconds: int, held_seconds: float = SECONDS) -> Callable[[Stage, Ledger], Awaitable[float]]:
    """Start the service again with that clock, hold it for a while, and start it again with the right one."""

    async def skew(stage: Stage, ledger: Ledger) -> float:
        path = library()
        assert path is not None
        stage.change_environment(
            service,
            {"LD_PRELOAD": str(path), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        )
        try:
            await stage.restarted(service, stage.kill(service))
            restarted = now()
            await _heard(ledger, restarted)
            heard = now()
            await asyncio.sleep(held_seconds)
            _judge(ledger, restarted, heard, seconds)
        finally:
            stage.change_environment(service, {})
        killed = stage.kill(service)
        moment = now()
        await stage.restarted(service, killed)
        return moment

    return skew


async def _heard(ledger: Ledger, restarted: float) -> None:
    """Until each kind of client was served, or told of the clock: what the restart has cut is not the clock's doing."""
    kinds = set(ledger.served)
    deadline = now() + _HEARD_SECONDS
    while left := kinds - _answered(ledger, restarted):
        if now() > deadline:
            ledger.violations.append(f"neither served nor told of the clock: {', '.join(sorted(left))}")
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _answered(ledger: Ledger, restarted: float) -> set[str]:
    served = {kind for kind, began in ledger.served.items() if began >= restarted}
    return served | {refusal.kind for refusal in ledger.refusals if _is_told(refusal) and refusal.began >= restarted}


def _is_told(refusal: Refusal) -> bool:
    return "clock" in refusal.detail


def _judge(ledger: Ledger, restarted: float, heard: float, seconds: int) -> None:
    """What was asked after every client was heard; that the clock was noticed may have been said before."""
    # 409 says that the same was begun already, before the restart
    seen = [refusal for refusal in ledger.refusals if refusal.began >= heard and refusal.status not in (0, 409)]
    if abs(seconds) <= LEEWAY_SECONDS:
        ledger.violations.extend(f"noticed: {refusal.words}: {refusal.detail}" for refusal in seen)
        return
    if not any(_is_told(refusal) and refusal.began >= restarted for refusal in ledger.refusals):
        ledger.violations.append("a clock that far off was not noticed")
    ledger.violations.extend(
        f"does not name the skew: {refusal.words}: {refusal.detail}" for refusal in seen if not _is_told(refusal)
    )
