"""Pods that come and go under load: `python -m bench.disruption --key KEY --url URL`, for an installation in a cluster.

The clients are those of bench.rollout, and nothing is sent twice. In turn: every pod of every service is deleted in an
orderly way, one at a time; the node is drained of the gateway's pods, which its budget bounds; the gateway's HPA scales
out under more clients, and in again without them. Each of these may fail no request. Then pods are killed without any
grace every few seconds: requests may fail, but nothing that was acknowledged may be lost or be there twice. Each
service needs two pods, and the gateway's HPA another to grow by.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.rollout_cluster import kubectl
from bench.rollout_load import READS, Load

SERVICES = ("gateway", "catalog", "ingest", "lineage")
COMPONENT = "app.kubernetes.io/component"


class Cluster:
    def __init__(self, namespace: str, release: str) -> None:
        self.namespace = namespace
        self.release = release

    async def ask(self, *words: str) -> str:
        return await asyncio.to_thread(kubectl, *words, "-n", self.namespace)

    async def pods(self, service: str) -> list[str]:
        selector = f"{COMPONENT}={service},app.kubernetes.io/instance={self.release}"
        found = json.loads(await self.ask("get", "pods", "-l", selector, "-o", "json"))
        return [pod["metadata"]["name"] for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    async def whole(self, service: str) -> None:
        """Until all pods that are wanted are ready."""
        await self.ask("rollout", "status", f"deployment/{self.release}-{service}", "--timeout=180s")

    async def scaler(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.ask("get", "hpa", f"{self.release}-gateway", "-o", "json"))
        return found


async def deletes(cluster: Cluster, load: Load) -> str:
    count = 0
    for service in SERVICES:
        for pod in await cluster.pods(service):
            await cluster.ask("delete", "pod", pod, "--wait=true")
            await cluster.whole(service)
            count += 1
    return f"{count} pods deleted"


async def drain(cluster: Cluster, load: Load) -> str:
    """A node that is cordoned takes no new pods: of two gateways one is evicted, the budget keeps the other."""
    pod = (await cluster.pods("gateway"))[0]
    node = await cluster.ask("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
    selector = f"{COMPONENT}=gateway,app.kubernetes.io/instance={cluster.release}"
    words = ["kubectl", "drain", node, f"--pod-selector={selector}", "--delete-emptydir-data", "--timeout=30s"]
    try:
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        refused = said.count("violate the pod's disruption budget")
        if "evicted" not in said and not refused:
            raise SystemExit(said)
        path = "jsonpath={.status.readyReplicas}"
        left = await cluster.ask("get", f"deployment/{cluster.release}-gateway", "-o", path)
    finally:
        await cluster.ask("uncordon", node)
    await cluster.whole("gateway")
    return f"the budget refused {refused} evictions, {left} was ready at the end"


async def scales(cluster: Cluster, load: Load) -> str:
    began, most = time.monotonic(), 0
    first = (await cluster.scaler())["status"]["currentReplicas"]
    # its answers count with the others', and it stops by itself
    extra = dataclasses.replace(load, stop=asyncio.Event())
    more = [asyncio.create_task(extra.read(0)) for _ in range(24)]
    while most <= first and time.monotonic() - began < 120:
        await asyncio.sleep(2)
        most = max(most, (await cluster.scaler())["status"]["currentReplicas"])
    await cluster.whole("gateway")
    out = time.monotonic() - began
    extra.stop.set()
    await asyncio.gather(*more)
    while time.monotonic() - began < 400:
        status = (await cluster.scaler())["status"]
        most = max(most, status["currentReplicas"])
        if status["currentReplicas"] <= first and len(await cluster.pods("gateway")) <= first:
            break
        await asyncio.sleep(2)
    return f"{first} to {most} pods in {out:.0f} s, {status['currentReplicas']} after {time.monotonic() - began:.0f} s"


async def kills(cluster: Cluster, load: Load) -> str:
    ends, count, chance = time.monotonic() + 120, 0, random.Random(5)
    while time.monotonic() < ends:
        pods = await cluster.pods(chance.choice(SERVICES))
        if pods:
            await cluster.ask("delete", "pod", chance.choice(pods), "--force", "--grace-period=0", "--ignore-not-found")
            count += 1
        await asyncio.sleep(4)
    for service in SERVICES:
        await cluster.whole(service)
    return f"{count} pods killed in 120 s"


SCENARIOS: dict[str, Callable[[Cluster, Load], Awaitable[str]]] = {
    "deletes": deletes,
    "drain": drain,
    "scales": scales,
    "kills": kills,
}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--namespace", default="lakegate")
    parser.add_argument("--release", default="lakegate")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    options = parser.parse_args()
    cluster = Cluster(options.namespace, options.release)
    failed = 0
    for name in options.only:
        load = Load(options.url, READS, {"Authorization": f"Bearer {options.key}"})
        await load.prepare()
        work = [*(load.read(0.05) for _ in range(6)), load.write(0), load.tell(0), load.follow()]
        clients = [asyncio.create_task(client) for client in (*work, load.commit(options.key))]
        try:
            print(f"{name}: {await SCENARIOS[name](cluster, load)}", flush=True)
        finally:
            load.stop.set()
            await asyncio.gather(*clients)
        print(load.summary())
        print("\n".join(await load.account()), flush=True)
        failed += len(load.failures) if name != "kills" else 0
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    asyncio.run(main())
