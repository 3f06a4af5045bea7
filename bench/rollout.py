"""Rollouts under load on a real cluster: `python -m bench.rollout --image IMAGE | --key KEY`.

Keep-alive clients ask the active Service (or --url, an Ingress for instance) all the time; every answer that was not
hoped for and every broken connection is a failed request, and is never tried again. Meanwhile: rollouts there and back,
aborted ones, one of an image that does not exist, one of an image that ends at once, and two whose driver is killed
with SIGKILL in every phase; with --canary, and a --url that an HTTPRoute serves, also three that begin with a share.
IMAGE holds Python, the chassis and the CLI. With a key, the suite that is installed also gets loads, slow uploads that
are followed by server-sent events, OpenLineage and Iceberg commits by PyIceberg: each acknowledged row has to be in its
table once, each run in lineage. Where the warehouse is a folder, PyIceberg has to reach it at the same path.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
import time

from bench.rollout_canary import Shares
from bench.rollout_cluster import apply, base, colour, kubectl
from bench.rollout_load import READS, Load

QUICK = ["--watch-seconds", "6", "--drain-seconds", "2", "--load-requests", "200"]


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
        environment = dict(os.environ)
        if "--here" in words:
            # who drives from here signs and reads with what a Job has in its environment
            environment["LAKEGATE_ROLLOUT_KEY"] = await asyncio.to_thread(self._key, "lakegate-rollout-key")
            environment["LAKEGATE_KEY"] = await asyncio.to_thread(self._key, "lakegate-reader-key")
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lakegate", "rollout", *words, "--namespace", self.namespace,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment,
        )  # fmt: skip

    def _key(self, secret: str) -> str:
        coded = kubectl("get", "secret", secret, "-n", self.namespace, "-o", "jsonpath={.data.key}")
        return base64.b64decode(coded).decode()

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
        # a window that a busy machine doesn't miss
        driver = await self._begin("start", *QUICK, "--watch-seconds", "60", *self.here)
        await self.reach(phase)
        code, text = await self.command("abort")
        if code:
            raise SystemExit(text)
        await driver.communicate()
        self.note(f"aborted in {phase}", self.outcome(), time.monotonic() - began)

    async def ended_in_canary(self, name: str, request: str, *words: str) -> None:
        """Begin, let the first weight hold for a while, then ask for the end of it."""
        began = time.monotonic()
        driver = await self._begin("start", *QUICK, *words, "--canary-seconds", "120", *self.here)
        await self.reach("canary")
        await asyncio.sleep(15)
        code, text = await self.command(request)
        if code:
            raise SystemExit(text)
        await driver.communicate()
        self.note(name, self.outcome(), time.monotonic() - began)

    async def reach(self, phase: str) -> None:
        # in a thread, since the clients share this loop
        while await asyncio.to_thread(self.phase) != phase:  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.05)

    async def killed_in_every_phase(self, *, abort_in: str | None = None) -> None:
        """Each driver is killed as soon as it says that it has entered a phase, until one comes to the end."""
        began = time.monotonic()
        words, killed = ["start", "--here", *QUICK], list[str]()
        while True:
            process = await self._begin(*words)
            entered = await self._next_phase(process, killed)
            if entered is None:
                break
            process.kill()
            await process.wait()
            if entered == abort_in:
                await self.command("abort", "--detach")
            killed.append(entered)
            words = ["resume", "--here"]
            if self.phase() in ("promoted", "rolled-back"):
                break
        self.note(f"kill -9 in {', '.join(killed)}", self.outcome(), time.monotonic() - began)

    async def _next_phase(self, process: asyncio.subprocess.Process, killed: list[str]) -> str | None:
        """The next phase that the driver says it is in and in which none was killed; None when the rollout is over."""
        assert process.stdout is not None
        said = []
        async for line in process.stdout:
            said.append(line.decode())
            if not line.startswith(b"{"):
                continue
            event = json.loads(line)
            # one that takes over is in a phase that the one before may have entered as it died
            if event["event"] in ("phase", "driving") and event["phase"] not in killed:
                return str(event["phase"])
        await process.wait()
        if self.phase() not in ("promoted", "rolled-back"):
            raise SystemExit("".join(said))
        return None


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", help="make a namespace with stand-ins of this image")
    parser.add_argument("--key", help="take the suite that is installed in the namespace, with this key; it gets loads")
    parser.add_argument("--url", help="where the clients ask; else the active Service itself")
    parser.add_argument("--namespace", default="rollout-bench")
    parser.add_argument("--here", action="store_true", help="drive in processes of this machine instead of Jobs")
    parser.add_argument("--rounds", type=int, default=3, help="rollouts there and back")
    parser.add_argument("--aborts", type=int, default=3)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--writers", type=int, default=2, help="with --key: that load, and as many that tell lineage")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests of a reader")
    parser.add_argument("--streams", action="store_true", help="with --key, and Kafka: rows for a stream, too")
    parser.add_argument("--canary", action="store_true", help="three more by weights of the HTTPRoute that --url asks")
    parser.add_argument("--broken", action=argparse.BooleanOptionalAction, default=True, help="images that are no good")
    parser.add_argument("--kills", action=argparse.BooleanOptionalAction, default=True, help="drivers that are killed")
    parser.add_argument("--broken-image", default="localhost/lakegate-rollout:0.1.0", help="with --key: ends at once")
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
    url = options.url
    if url is None:
        url = "http://" + kubectl(
            "get", "service", "lakegate", "-n", bench.namespace, "-o", "jsonpath={.spec.clusterIP}"
        )
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    load = Load(url, READS if options.key else ("/v1/echo",), headers)
    work = [load.read(options.pause) for _ in range(options.readers)]
    if options.key:
        await load.prepare()
        work += [load.write(number) for number in range(options.writers)]
        work += [load.tell(number) for number in range(options.writers)]
        work += [load.follow(), load.commit(options.key)]
    if options.streams:
        work.append(load.produce())
    clients = [asyncio.create_task(client) for client in work]
    began = time.monotonic()
    try:
        await scenarios(bench, options)
    finally:
        load.stop.set()
        ended = await asyncio.gather(*clients, return_exceptions=True)
        seconds = time.monotonic() - began
        print(f"\n{len(clients)} clients, {seconds:.0f} s, load of the machine {os.getloadavg()[1]:.1f}")
        print(load.summary())
        if options.key:
            print("\n".join(await load.account()))
    for error in ended:
        if error is not None:
            raise SystemExit(f"a client gave up: {error!r}")
    if load.failures:
        raise SystemExit(1)


async def scenarios(bench: Bench, options: argparse.Namespace) -> None:
    for number in range(options.rounds):
        await bench.start(f"there {number + 1}")
        await bench.step(f"and back {number + 1}", "undo", "--watch-seconds", "6")
    for phase in ("preparing", "watching", "testing", "handover", "confirming")[: options.aborts]:
        await bench.abort_in(phase)
    if options.canary:
        await canaries(bench, options)
    if options.broken:
        await broken_images(bench, options)
    if options.kills:
        await bench.killed_in_every_phase(abort_in="watching")
        await bench.killed_in_every_phase()


async def canaries(bench: Bench, options: argparse.Namespace) -> None:
    """By two weights to the end, by one until somebody promotes it, by one until somebody aborts it."""
    words = ["--canary", "20", "--canary", "60"]
    for name, request in (("canary 20%, 60%", ""), ("canary promoted at 20%", "promote"), ("canary aborted", "abort")):
        shares, stop = Shares(bench.namespace), asyncio.Event()
        watched = asyncio.create_task(shares.watch(stop))
        if not request:
            await bench.start(name, *words, "--canary-seconds", "15")
        else:
            await bench.ended_in_canary(name, request, *words)
        stop.set()
        await watched
        print("\n".join(shares.lines()), flush=True)


async def broken_images(bench: Bench, options: argparse.Namespace) -> None:
    rests = "blue" if bench.serves() == "green" else "green"
    gateway = f"deployment/lakegate-{rests}-gateway"
    broken = {"an image that does not exist": "localhost/no-such-image:1"}
    if options.key:
        broken["an image that ends at once"] = options.broken_image
    for name, image in broken.items():
        kubectl("set", "image", gateway, f"*={image}", "-n", bench.namespace)
        await bench.start(name, "--prepare-seconds", "20", wanted=3)
        kubectl("rollout", "undo", gateway, "-n", bench.namespace)


if __name__ == "__main__":
    asyncio.run(main())
