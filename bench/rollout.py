"""Rollouts under load on a real cluster: `python -m bench.rollout --image IMAGE [--rounds 3] [--aborts 3]`.

Keep-alive clients ask the active Service all the time; every answer that is not 200 and every broken connection is a
failed request, and is never tried again. Meanwhile: rollouts there and back, aborted ones, one of an image that does
not exist, and two whose driver is killed with SIGKILL in every phase. IMAGE holds Python, the chassis and the CLI.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from bench.rollout_cluster import apply, base, colour, kubectl

QUICK = ["--watch-seconds", "6", "--drain-seconds", "2", "--load-requests", "200"]


@dataclass
class Load:
    """What the clients saw."""

    url: str
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    async def client(self, stop: asyncio.Event, pause_seconds: float) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    answer = await client.get("/v1/echo")
                except httpx.HTTPError as error:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__} {error}")
                    continue
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
                if answer.status_code == 200:
                    self.answers[answer.json()["colour"]] += 1
                else:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {answer.status_code}")
                await asyncio.sleep(pause_seconds)


class Bench:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.rows: list[tuple[str, str, float]] = []

    async def command(self, *words: str) -> tuple[int, str]:
        """`lakegate rollout …`: the exit code and what it said."""
        process = await self._begin(*words)
        text, _ = await process.communicate()
        return process.returncode or 0, text.decode()

    async def _begin(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lakegate", "rollout", *words, "--namespace", self.namespace,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    def phase(self) -> str:
        path = r"jsonpath={.metadata.annotations.lakegate\.io/rollout}"
        text = kubectl("get", "service", "lakegate", "-n", self.namespace, "-o", path)
        return str(json.loads(text)["phase"]) if text else ""

    def serves(self) -> str:
        path = r"jsonpath={.spec.selector.lakegate\.io/colour}"
        return kubectl("get", "service", "lakegate", "-n", self.namespace, "-o", path)

    async def step(self, name: str, *words: str, wanted: int = 0) -> None:
        began = time.monotonic()
        code, text = await self.command(*words)
        if code != wanted:
            raise SystemExit(f"{name}: exit code {code}, not {wanted}\n{text}")
        self.note(name, self.outcome(), time.monotonic() - began)

    def outcome(self) -> str:
        return f"{self.phase()}, {self.serves()} serves"

    def note(self, name: str, outcome: str, seconds: float) -> None:
        self.rows.append((name, outcome, seconds))
        print(f"{name:<44} {outcome:<30} {seconds:6.1f} s", flush=True)

    async def abort_in(self, phase: str) -> None:
        """Begin, wait for the phase, abort."""
        began = time.monotonic()
        code, text = await self.command("start", "--detach", *QUICK)
        if code:
            raise SystemExit(text)
        await self.reach(phase)
        code, text = await self.command("abort")
        if code:
            raise SystemExit(text)
        self.note(f"aborted in {phase}", self.outcome(), time.monotonic() - began)

    async def reach(self, phase: str) -> None:
        while self.phase() != phase:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)

    async def killed_in_every_phase(self, *, abort_in: str | None = None) -> None:
        """Each driver is killed as soon as it says that it has entered a phase, until one comes to the end."""
        began = time.monotonic()
        words, killed = ["start", "--here", *QUICK], []
        while True:
            process = await self._begin(*words)
            entered = await self._next_phase(process)
            if entered is None:
                break
            if entered == abort_in:
                await self.command("abort", "--detach")
            process.kill()
            await process.wait()
            killed.append(entered)
            words = ["resume", "--here"]
            if self.phase() in ("promoted", "rolled-back"):
                break
        self.note(f"kill -9 in {', '.join(killed)}", self.outcome(), time.monotonic() - began)

    async def _next_phase(self, process: asyncio.subprocess.Process) -> str | None:
        """The phase that the driver says it is in next; None when the rollout is over."""
        assert process.stdout is not None
        said = []
        async for line in process.stdout:
            said.append(line.decode())
            if not line.startswith(b"{"):
                continue
            event = json.loads(line)
            first = event["event"] == "driving" and event["phase"] == "pending"
            if event["event"] == "phase" or first:
                return str(event["phase"])
        await process.wait()
        if self.phase() not in ("promoted", "rolled-back"):
            raise SystemExit("".join(said))
        return None


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True)
    parser.add_argument("--namespace", default="rollout-bench")
    parser.add_argument("--rounds", type=int, default=3, help="rollouts there and back")
    parser.add_argument("--aborts", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests of a client")
    parser.add_argument("--keep", action="store_true", help="leave the namespace")
    options = parser.parse_args()
    bench = Bench(options.namespace)
    kubectl("create", "namespace", options.namespace)
    kubectl("label", "namespace", options.namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        await run(bench, options)
    finally:
        if not options.keep:
            kubectl("delete", "namespace", options.namespace, "--wait=false")


async def run(bench: Bench, options: argparse.Namespace) -> None:
    apply(bench.namespace, base(options.image))
    apply(bench.namespace, colour("blue", options.image, replicas=2, version="1.0"))
    await bench.step("the first colour", "start", *QUICK)
    apply(bench.namespace, colour("green", options.image, replicas=1, version="1.1"))
    address = kubectl("get", "service", "lakegate", "-n", bench.namespace, "-o", "jsonpath={.spec.clusterIP}")
    load, stop = Load(f"http://{address}"), asyncio.Event()
    clients = [asyncio.create_task(load.client(stop, options.pause)) for _ in range(options.clients)]
    try:
        await scenarios(bench, options)
    finally:
        stop.set()
        await asyncio.gather(*clients)
        print(
            f"\n{sum(load.answers.values()):,} requests of {options.clients} keep-alive clients: {dict(load.answers)}"
        )
        print(f"failed: {len(load.failures)}; slowest answer {load.slowest_seconds:.2f} s")
        for failure in load.failures[:20]:
            print("  ", failure)
    if load.failures:
        raise SystemExit(1)


async def scenarios(bench: Bench, options: argparse.Namespace) -> None:
    for number in range(options.rounds):
        await bench.step(f"there {number + 1}", "start", *QUICK)
        await bench.step(f"and back {number + 1}", "undo", "--watch-seconds", "6")
    for phase in ("preparing", "watching", "handover", "testing", "confirming")[: options.aborts]:
        await bench.abort_in(phase)
    apply(bench.namespace, colour("green", "localhost/no-such-image:1", replicas=1, version="broken"))
    await bench.step("an image that does not exist", "start", *QUICK, "--prepare-seconds", "20", wanted=3)
    apply(bench.namespace, colour("green", options.image, replicas=1, version="1.1"))
    await bench.killed_in_every_phase(abort_in="watching")
    await bench.killed_in_every_phase()


if __name__ == "__main__":
    asyncio.run(main())
