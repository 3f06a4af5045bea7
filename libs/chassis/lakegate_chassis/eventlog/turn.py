"""Whose turn it is to consume: with two colours of a service alive, the consumers of one run.

Both colours consume as the same groups, so that one goes on where the other stopped. Who is to run stands in a file, a
ConfigMap mounted into every pod, so that a pod that starts knows. A mounted file follows late; so the driver of a
rollout also tells each process at its management listener, and signs what it says: whoever can't has the file read
again, and no more. The decision with the higher generation counts, wherever it came from. Without a file every process
consumes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakegate_chassis.eventlog import metrics
from lakegate_chassis.logs import log
from lakegate_chassis.problems import Conflict, InvalidRequest, Unauthorized
from lakegate_chassis.settings import ConsumerSettings

# A rollout is four decisions. A number far above the known one would have all later ones refused.
MOST_STEPS = 1000


class Decision(BaseModel):
    """Which colour's consumers run; null is neither: one colour has stopped, the other not begun."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [{"colour": "green", "generation": 7}]}
    )

    colour: str | None = Field(max_length=63, description="colour whose consumers run; null: nobody's")
    generation: int = Field(ge=0, le=2**53, description="rises with each decision; 0: nobody has decided")


class Standing(BaseModel):
    """How this process stands to the latest decision."""

    colour: str | None = Field(description="this process's own colour; null: it has none and always consumes")
    wanted: str | None = Field(description="the colour of the latest decision")
    generation: int = Field(description="of the latest decision")
    running: bool = Field(description="whether its consumers are to run")
    settled: bool = Field(description="whether they all do, or all have left their groups")
    groups: dict[str, bool] = Field(description="each consumer, and whether it runs")


class OutdatedDecision(Conflict):
    slug = "outdated-decision"
    title = "A later decision is known"


class Turn:
    """The consumers of this process and whether it is their turn."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._decision = Decision(colour=None, generation=0)
        self._changed = asyncio.Condition()
        self._running: dict[str, bool] = {}
        self._unreadable = ""
        self._read()

    @property
    def is_ours(self) -> bool:
        """Whether the consumers are to run."""
        return (
            self._settings.colour is None
            or self._decision.generation == 0
            or self._decision.colour == self._settings.colour
        )

    @property
    def standing(self) -> Standing:
        running = self.is_ours
        return Standing(
            colour=self._settings.colour,
            wanted=self._decision.colour,
            generation=self._decision.generation,
            running=running,
            settled=all(runs == running for runs in self._running.values()),
            groups=dict(self._running),
        )

    def is_signed(self, body: bytes, signature: str) -> bool:
        """Whether who sent this body has the key: HMAC-SHA256, hexadecimal. A key may be rotated: it is read now."""
        if self._settings.key_file is None:
            return False
        try:
            key = self._settings.key_file.read_bytes().strip()
        except OSError as error:
            log.warning("consumers_key_unreadable", reason=f"{self._settings.key_file}: {type(error).__name__}")
            return False
        made = hmac.new(key, body, hashlib.sha256).hexdigest()
        return bool(key) and hmac.compare_digest(made.encode(), signature.encode())

    async def hear(self, decision: Decision, *, signed: bool) -> Standing:
        """What came over the network. Raises Unauthorized for news that is not signed and not in the file either,
        OutdatedDecision, InvalidRequest.
        """
        if not signed:
            await self._look()
            if decision.generation > self._decision.generation:
                raise Unauthorized(
                    "Whose consumers run is decided by who signs it with the key of rollouts, and the file does not "
                    "say so yet."
                )
        return await self.decide(decision)

    async def decide(self, decision: Decision) -> Standing:
        """Take it if it is news. Raises OutdatedDecision when a later one is known, InvalidRequest for a leap."""
        known = self._decision
        if decision.generation < known.generation or (
            decision.generation == known.generation and decision.colour != known.colour
        ):
            raise OutdatedDecision(f"Generation {known.generation} is known; this one is {decision.generation}.")
        if decision.generation > known.generation + MOST_STEPS:
            raise InvalidRequest(
                f"Generation {known.generation} is known, and {decision.generation} is more than {MOST_STEPS:,} above."
            )
        if decision.generation > known.generation:
            await self._take(decision)
        return self.standing

    async def _take(self, decision: Decision) -> None:
        self._decision = decision
        log.info("consumers_decided", colour=decision.colour, generation=decision.generation, running=self.is_ours)
        self._observe()
        async with self._changed:
            self._changed.notify_all()

    def _observe(self) -> None:
        metrics.CONSUMERS_WANTED.set(self.is_ours)
        metrics.CONSUMERS_GENERATION.set(self._decision.generation)

    def _read(self) -> Decision | None:
        """The file's decision when it is news; a file that can't be read changes nothing, and is told once."""
        if self._settings.file is None:
            self._observe()
            return None
        try:
            read = Decision.model_validate_json(self._settings.file.read_bytes())
        except FileNotFoundError:
            # nobody has decided yet: the ConfigMap is mounted without it
            read = Decision(colour=None, generation=0)
        except (OSError, ValidationError) as error:
            reason = f"{self._settings.file}: {type(error).__name__}"
            if reason != self._unreadable:
                self._unreadable = reason
                log.error("consumers_file_unreadable", reason=reason)
            return None
        self._unreadable = ""
        if read.generation > self._decision.generation:
            self._decision = read
            self._observe()
            return read
        self._observe()
        return None

    async def follow(self) -> None:
        """Read the file again and again; run it under Background."""
        while self._settings.file is not None:
            await asyncio.sleep(self._settings.poll_seconds)
            await self._look()

    async def _look(self) -> None:
        read = self._read()
        if read is not None:
            log.info("consumers_decided", colour=read.colour, generation=read.generation, running=self.is_ours)
            async with self._changed:
                self._changed.notify_all()

    def taking(self, name: str, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """`run` for Background, cancelled while it is not our turn: a consumer commits and leaves its group then."""
        self._running[name] = False

        async def run_in_turn() -> None:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self.is_ours)
                await self._run_while_ours(name, run)

        return run_in_turn

    async def _run_while_ours(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Until it is no longer our turn. Raises what `run` raises."""

        async def wait_for_the_end() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: not self.is_ours)

        consumer = asyncio.ensure_future(run())
        end = asyncio.create_task(wait_for_the_end())
        self._note(name, True)
        try:
            await asyncio.wait((consumer, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
            consumer.cancel()
            # what it commits as it leaves is worth waiting for; its own handler bounds that
            await asyncio.wait((consumer,))
            self._note(name, False)
        if not consumer.cancelled():
            consumer.result()
        elif self.is_ours:
            # a client library let the cancellation of a future of its own through
            raise ConnectionError(f"consumer {name} was cancelled by nobody of ours")

    def _note(self, name: str, runs: bool) -> None:
        self._running[name] = runs
        metrics.CONSUMERS_RUNNING.labels(name).set(runs)


def turn_routes(turn: Turn) -> APIRouter:
    """At the management listener, which only the cluster's own people and the driver of a rollout reach."""
    routes = APIRouter()

    @routes.get("/consumers")
    async def standing() -> Standing:
        """How the consumers of this process stand."""
        return turn.standing

    @routes.put("/consumers")
    async def decide(
        request: Request,
        decision: Decision,
        lakegate_signature: Annotated[str, Header(max_length=64, description="HMAC-SHA256 of the body, hex")] = "",
    ) -> Standing:
        """Tell this process whose turn it is. It answers at once; ask until it is settled. Repeating is harmless."""
        signed = turn.is_signed(await request.body(), lakegate_signature)
        return await turn.hear(decision, signed=signed)

    return routes


def details(turn: Turn) -> dict[str, Any]:
    """For /readyz. Not its turn is no reason not to be ready: requests are served by both colours."""
    return turn.standing.model_dump()
