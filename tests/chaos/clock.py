"""Another clock for one service: libfaketime, with the monotonic clock left alone, as a wrong NTP would have it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from chaos.ledger import Ledger, now
from chaos.suite import Stage

# The chassis lets this much go unnoticed (lakegate_chassis.tokens.LEEWAY_SECONDS).
LEEWAY_SECONDS = 30
SECONDS = 10.0
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
            # connections that the restart cut are not the clock's doing
            await asyncio.sleep(2)
            begun = now()
            await asyncio.sleep(held_seconds)
            _judge(ledger, begun, seconds)
        finally:
            stage.change_environment(service, {})
        killed = stage.kill(service)
        moment = now()
        await stage.restarted(service, killed)
        return moment

    return skew


def _judge(ledger: Ledger, begun: float, seconds: int) -> None:
    # 409 says that the same was begun already, before the restart
    seen = [refusal for refusal in ledger.refusals if refusal.at >= begun and refusal.status not in (0, 409)]
    if abs(seconds) <= LEEWAY_SECONDS:
        ledger.violations.extend(f"noticed: {refusal.words}: {refusal.detail}" for refusal in seen)
        return
    if not seen:
        ledger.violations.append("a clock that far off was not noticed")
    ledger.violations.extend(
        f"does not name the skew: {refusal.words}: {refusal.detail}"
        for refusal in seen
        if "clock" not in refusal.detail
    )
