"""Rollouts under load on a real cluster: `python -m bench.rollout --image IMAGE [--rounds 3] [--aborts 3]`.

Keep-alive clients ask the active Service all the time; every answer that is not 200 and every broken connection is a
failed request, and is never tried again. Meanwhile: rollouts there and back, aborted ones, one of an image that does not
exist, and one whose driver is killed with SIGKILL in every phase. IMAGE holds Python, the chassis and the command line.
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
PHASES = [
    "pending", "preparing", "testing", "handover", "switching", "confirming", "watching", "retiring",
]  # fmt: skip


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

    async def command(self, *words: str, kill_in: str | None = None) -> tuple[int, str]:
        """`lakegate rollout …`; with `kill_in` the process is killed as soon as the rollout is seen in that phase."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lakegate", "rollout", *words, "--namespace", self.namespace,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        if kill_in is not None:
            while process.returncode is None and self.phase() != kill_in:
                await asyncio.sleep(0.05)
            if process.returncode is None:
                process.kill()
        text = (await process.stdout.read()).decode()
        return await process.wait(), text

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
        assert code == 0, text
        while self.phase() != phase:
            await asyncio.sleep(0.05)
        code, text = await self.command("abort")
        if code:
            raise SystemExit(text)
        self.note(f"aborted in {phase}", self.outcome(), time.monotonic() - began)

    async def kill_in_every_phase(self) -> None:
        began = time.monotonic()
        words = ["start", "--here", *QUICK]
        killed = []
        for phase in PHASES:
            code, _ = await self.command(*words, kill_in=phase)
            if code == -9:
                killed.append(phase)
                words = ["resume", "--here"]
        await self.step(f"driver killed -9 in {', '.join(killed)}", "resume", "--here")
        self.note("  all of it", self.outcome(), time.monotonic() - began)


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
    for number in range(options.rounds):
        await bench.step(f"there {number + 1}", "start", *QUICK)
        await bench.step(f"and back {number + 1}", "undo", "--watch-seconds", "6")
    for phase in ("preparing", "watching", "handover", "testing", "confirming")[: options.aborts]:
        await bench.abort_in(phase)
    broken = colour("green", "localhost/no-such-image:1", replicas=1, version="broken")
    apply(bench.namespace, broken)
    await bench.step("an image that does not exist", "start", *QUICK, "--prepare-seconds", "20", wanted=3)
    apply(bench.namespace, colour("green", options.image, replicas=1, version="1.1"))
    await bench.kill_in_every_phase()
    stop.set()
    await asyncio.gather(*clients)
    print(f"\n{sum(load.answers.values()):,} requests of {options.clients} keep-alive clients: {dict(load.answers)}")
    print(f"failed: {len(load.failures)}; slowest answer {load.slowest_seconds:.2f} s")
    for failure in load.failures[:20]:
        print("  ", failure)
    if load.failures:
        raise SystemExit(1)


if __name__ == "__main__":
    asyncio.run(main())
