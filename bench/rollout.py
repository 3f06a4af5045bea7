"""Rollouts under load on a real cluster: `python -m bench.rollout --image IMAGE | --key KEY`.

Keep-alive clients ask the active Service all the time; every answer that is not 200 and every broken connection is a
failed request, and is never tried again. Meanwhile: rollouts there and back, aborted ones, one of an image that does
not exist, and two whose driver is killed with SIGKILL in every phase. IMAGE holds Python, the chassis and the CLI.
With a key, the suite that is installed gets loads, too: each acknowledged row has to be in the table, once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field

import httpx

from bench.rollout_cluster import apply, base, colour, kubectl

LOADS, TABLE = "/v1/loads/bench/rollouts", "/v1/tables/bench/rollouts/rows?format=ndjson"
QUICK = ["--watch-seconds", "6", "--drain-seconds", "2", "--load-requests", "200"]


@dataclass
class Load:
    """What the clients saw. `written` counts the rows that were acknowledged."""

    url: str
    path: str
    headers: dict[str, str]
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    written: int = 0

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=60, trust_env=False)

    async def read(self, stop: asyncio.Event, pause_seconds: float) -> None:
        async with self.client() as client:
            while not stop.is_set():
                await self._ask("read", client.get(self.path), 200)
                await asyncio.sleep(pause_seconds)

    async def write(self, stop: asyncio.Event, number: int) -> None:
        """A load of three rows, one after the other."""
        rows = "".join(f"{number},{row}\n" for row in range(3))
        async with self.client() as client:
            while not stop.is_set():
                sent = client.post(f"{LOADS}?name=rows.csv", content=f"client,row\n{rows}")
                if await self._ask("load", sent, 201):
                    self.written += 3
                await asyncio.sleep(0.2)

    async def _ask(self, what: str, sent: Awaitable[httpx.Response], wanted: int) -> bool:
        began = time.monotonic()
        try:
            answer = await sent
        except httpx.HTTPError as error:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {what}: {type(error).__name__} {error}")
            return False
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
        if answer.status_code != wanted:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {what}: {answer.status_code} {answer.text[:200]}")
            return False
        self.answers[what] += 1
        return True

    async def prepare(self) -> int:
        """Make the table; the rows that are in it then."""
        async with self.client() as client:
            answer = await client.post(f"{LOADS}?name=first.csv", content="client,row\n0,0\n")
            answer.raise_for_status()
        return await self.stored()

    async def stored(self) -> int:
        """Rows that are in the table now."""
        async with self.client() as client:
            answer = await client.get(TABLE)
            answer.raise_for_status()
            return len(answer.text.splitlines())


class Bench:
    def __init__(self, namespace: str, *, here: bool) -> None:
        self.namespace = namespace
        self.here = ["--here"] if here else []

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

    async def start(self, name: str, *words: str, wanted: int = 0) -> None:
        await self.step(name, "start", *QUICK, *words, wanted=wanted)

    async def step(self, name: str, *words: str, wanted: int = 0) -> None:
        began = time.monotonic()
        code, text = await self.command(*words, *self.here)
        if code != wanted:
            raise SystemExit(f"{name}: exit code {code}, not {wanted}\n{text}")
        self.note(name, self.outcome(), time.monotonic() - began)

    def outcome(self) -> str:
        return f"{self.phase()}, {self.serves()} serves"

    def note(self, name: str, outcome: str, seconds: float) -> None:
        print(f"{name:<44} {outcome:<30} {seconds:6.1f} s", flush=True)

    async def abort_in(self, phase: str) -> None:
        """Begin, wait for the phase, abort."""
        began = time.monotonic()
        driver = await self._begin("start", *QUICK, *self.here)
        await self.reach(phase)
        code, text = await self.command("abort")
        if code:
            raise SystemExit(text)
        await driver.communicate()
        self.note(f"aborted in {phase}", self.outcome(), time.monotonic() - began)

    async def reach(self, phase: str) -> None:
        while self.phase() != phase:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)

    async def killed_in_every_phase(self, *, abort_in: str | None = None) -> None:
        """Each driver is killed as soon as it says that it has entered a phase, until one comes to the end."""
        began = time.monotonic()
        words, killed = ["start", "--here", *QUICK], list[str]()
        while True:
            process = await self._begin(*words)
            entered = await self._next_phase(process, first=not killed)
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

    async def _next_phase(self, process: asyncio.subprocess.Process, *, first: bool) -> str | None:
        """The phase that the driver says it is in next; None when the rollout is over."""
        assert process.stdout is not None
        said = []
        async for line in process.stdout:
            said.append(line.decode())
            if not line.startswith(b"{"):
                continue
            event = json.loads(line)
            if event["event"] == "phase" or (first and event["event"] == "driving"):
                return str(event["phase"])
        await process.wait()
        if self.phase() not in ("promoted", "rolled-back"):
            raise SystemExit("".join(said))
        return None


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", help="make a namespace with stand-ins of this image")
    parser.add_argument("--key", help="take the suite that is installed in the namespace, with this key; it gets loads")
    parser.add_argument("--namespace", default="rollout-bench")
    parser.add_argument("--here", action="store_true", help="drive in processes of this machine instead of Jobs")
    parser.add_argument("--rounds", type=int, default=3, help="rollouts there and back")
    parser.add_argument("--aborts", type=int, default=3)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--writers", type=int, default=2, help="of them, with --key")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests of a client")
    options = parser.parse_args()
    if (options.image is None) == (options.key is None):
        parser.error("give --image or --key")
    bench = Bench(options.namespace, here=options.here)
    if options.key:
        await run(bench, options)
        return
    kubectl("create", "namespace", options.namespace)
    try:
        kubectl("label", "namespace", options.namespace, "pod-security.kubernetes.io/enforce=restricted")
        apply(bench.namespace, base(options.image))
        apply(bench.namespace, colour("blue", options.image, replicas=2, version="1.0"))
        await bench.start("the first colour")
        apply(bench.namespace, colour("green", options.image, replicas=1, version="1.1"))
        await run(bench, options)
    finally:
        kubectl("delete", "namespace", options.namespace, "--wait=false")


async def run(bench: Bench, options: argparse.Namespace) -> None:
    if not bench.serves():
        await bench.start("the first colour")
    address = kubectl("get", "service", "lakegate", "-n", bench.namespace, "-o", "jsonpath={.spec.clusterIP}")
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    load = Load(f"http://{address}", "/v1/datasets?limit=1" if options.key else "/v1/echo", headers)
    stop, writers = asyncio.Event(), options.writers if options.key else 0
    before = await load.prepare() if options.key else 0
    clients = [asyncio.create_task(load.read(stop, options.pause)) for _ in range(options.clients - writers)]
    clients += [asyncio.create_task(load.write(stop, number)) for number in range(writers)]
    try:
        await scenarios(bench, options)
    finally:
        stop.set()
        await asyncio.gather(*clients)
        count = sum(load.answers.values())
        print(f"\n{count:,} requests of {options.clients} keep-alive clients: {dict(load.answers)}")
        print(f"failed: {len(load.failures)}; slowest answer {load.slowest_seconds:.2f} s")
        for failure in load.failures[:20]:
            print("  ", failure)
    if options.key:
        print(f"rows acknowledged: {load.written:,}; in the table: {await load.stored() - before:,}")
    if load.failures:
        raise SystemExit(1)


async def scenarios(bench: Bench, options: argparse.Namespace) -> None:
    for number in range(options.rounds):
        await bench.start(f"there {number + 1}")
        await bench.step(f"and back {number + 1}", "undo", "--watch-seconds", "6")
    for phase in ("preparing", "watching", "testing", "handover", "confirming")[: options.aborts]:
        await bench.abort_in(phase)
    rests = "blue" if bench.serves() == "green" else "green"
    gateway = f"deployment/lakegate-{rests}-gateway"
    kubectl("set", "image", gateway, "*=localhost/no-such-image:1", "-n", bench.namespace)
    await bench.start("an image that does not exist", "--prepare-seconds", "20", wanted=3)
    kubectl("rollout", "undo", gateway, "-n", bench.namespace)
    await bench.killed_in_every_phase(abort_in="watching")
    await bench.killed_in_every_phase()


if __name__ == "__main__":
    asyncio.run(main())
