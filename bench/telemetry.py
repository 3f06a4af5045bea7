"""What telemetry costs the gateway, in one run: `python -m bench.telemetry [--seconds 5] [--rounds 5]`.

Two gateways pass the same small request on to the same nginx: one without a trace endpoint and unscraped, one that
records one request in ten, exports the spans to a live collector (which decodes each export, in a process of its own)
and is scraped with exemplars every five seconds. Both count and log every request: what is measured is what turning
telemetry on adds. In each round both are asked at the same time, so that they share whatever else the machine does;
who begins alternates. CPU is what each process itself used (/proc), export thread and scrapes included.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from bench.gateway import TINY, free_port, make_key, measure, need, nginx, running
from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_chassis.provision import provision
from lakegate_gateway.keygen import make_keys

# the tests' own collector
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from servers.otlp import collecting

TARGET = 0.10
SCRAPE_SECONDS = 5.0
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


@contextmanager
def scraping(url: str) -> Iterator[None]:
    """Ask for the metrics as Prometheus would."""
    ended = threading.Event()

    def scrape() -> None:
        with httpx.Client() as client:
            while not ended.wait(SCRAPE_SECONDS):
                client.get(url, headers=OPENMETRICS).raise_for_status()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


@contextmanager
def collector_process() -> Iterator[str]:
    """A collector that shares no interpreter with what asks; yields its endpoint."""
    command = [sys.executable, "-m", "bench.telemetry", "--collect"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        received, _ = process.communicate("")
        print(f"the collector decoded {int(received):,} spans")


def exported(management: int) -> dict[str, float]:
    """Spans by what became of them."""
    text = httpx.get(f"http://127.0.0.1:{management}/metrics").text
    lines = (line.split() for line in text.splitlines() if line.startswith("lakegate_trace_spans_total"))
    return {name.partition('"')[2].partition('"')[0]: float(value) for name, value in lines}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.collect:
        with collecting() as collector:
            print(collector.endpoint, flush=True)
            sys.stdin.read()
            print(len(collector.spans), flush=True)
        return 0
    need("nginx", "wrk")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # nginx's worker is another user
        folder.chmod(0o777)
        postgres = EmbeddedPostgres(folder / "pg")
        admin_url = postgres.start()
        stack.callback(postgres.stop)
        url = asyncio.run(provision(admin_url, {"gateway": secrets.token_urlsafe(16)}))["gateway"]
        private, _ = make_keys(folder / "keys")
        admin_key = "lgk_" + secrets.token_urlsafe(32)
        tiny = free_port()
        stack.enter_context(nginx(folder, "tiny", tiny, TINY.format(port=tiny)))
        endpoint = stack.enter_context(collector_process())
        pids, ports = {}, {}
        for name, more in {
            "off": {},
            "on": {"TRACE__ENDPOINT": endpoint, "TRACE__SAMPLE_RATIO": "0.1"},
        }.items():
            ports[name] = free_port(), free_port()
            settings = {
                "PORT": ports[name][0],
                "MANAGEMENT_PORT": ports[name][1],
                "POSTGRES__URL": url,
                "TOKEN__PRIVATE_KEY": private,
                "BOOTSTRAP__KEY": admin_key,
                **{f"{service}_URL": f"http://127.0.0.1:{tiny}" for service in ("CATALOG", "INGEST", "LINEAGE")},
                "DRAIN_SECONDS": "0",
                **more,
            }
            environment = {f"GATEWAY_{key}": str(value) for key, value in settings.items()}
            command = [sys.executable, "-m", "lakegate_gateway"]
            pids[name] = stack.enter_context(running(command, ports[name][0], folder / f"{name}.log", **environment))
        key = make_key(f"http://127.0.0.1:{ports['off'][0]}", admin_key)
        stack.enter_context(scraping(f"http://127.0.0.1:{ports['on'][1]}/metrics"))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        rates, cpus = [], []
        total = {name: [0.0, 0.0] for name in pids}  # requests, CPU microseconds
        print(f"{'telemetry':10}{'requests/s':>12}{'CPU µs':>9}")
        for number in range(given.rounds):
            under_way = {}
            for name in ("off", "on") if number % 2 == 0 else ("on", "off"):
                target = f"http://127.0.0.1:{ports[name][0]}/v1/jobs"
                under_way[name] = pool.submit(measure, pids[name], target, given.seconds, given.connections, key)
            seen = {}
            for name, measured in under_way.items():
                rate, _, micros, _ = measured.result()
                seen[name] = rate, micros
                total[name][0] += rate
                total[name][1] += rate * micros
                print(f"{name:10}{rate:12,.0f}{micros:9.1f}")
            rates.append(1 - seen["on"][0] / seen["off"][0])
            cpus.append(seen["on"][1] / seen["off"][1] - 1)
        spans = exported(ports["on"][1])
    micros = {name: used / requests for name, (requests, used) in total.items()}
    cost = 1 - micros["off"] / micros["on"]
    print(f"spans: {', '.join(f'{count:,.0f} {outcome}' for outcome, count in sorted(spans.items()))}")
    print(f"CPU a request, all rounds: {micros['off']:.1f} µs off, {micros['on']:.1f} µs on")
    print(f"throughput of a core lost: {cost:.1%} (target {TARGET:.0%}); CPU a request more, by round: {_list(cpus)}")
    print(f"requests/s lost, by round: {_list(rates)}; median {statistics.median(rates):.1%}")
    return 0 if cost <= TARGET else 1


def _list(shares: list[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in sorted(shares))


if __name__ == "__main__":
    sys.exit(main())
