"""What telemetry costs the gateway, in one run: `python -m bench.telemetry [--seconds 5] [--rounds 5]`.

Two gateways pass the same small request on to the same nginx: one without a trace endpoint and unscraped, one that
records one request in ten, exports the spans to a live collector (which decodes each export, in a process of its own)
and is scraped with exemplars every five seconds. Both count and log every request: what is measured is what turning
telemetry on adds. In each round both are asked at the same time, so that they share whatever else the machine does;
who begins alternates. CPU is what each process itself used (/proc), export thread and scrapes included.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from bench.gateway import TINY, free_port, make_key, measure, need, nginx, prepared

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


class Tally:
    """What was measured of both gateways, round by round."""

    def __init__(self) -> None:
        self.rates_lost: list[float] = []
        self.cpu_more: list[float] = []
        self._requests = {"off": 0.0, "on": 0.0}
        self._micros = {"off": 0.0, "on": 0.0}

    def add(self, seen: dict[str, tuple[float, float]]) -> None:
        """Requests/s and CPU microseconds a request, of each."""
        for name, (rate, micros) in seen.items():
            self._requests[name] += rate
            self._micros[name] += rate * micros
            print(f"{name:10}{rate:12,.0f}{micros:9.1f}")
        self.rates_lost.append(1 - seen["on"][0] / seen["off"][0])
        self.cpu_more.append(seen["on"][1] / seen["off"][1] - 1)

    def tell(self) -> float:
        """Print it; the share of a core's throughput that is lost."""
        off, on = (self._micros[name] / self._requests[name] for name in ("off", "on"))
        cost = 1 - off / on
        print(f"CPU a request, all rounds: {off:.1f} µs off, {on:.1f} µs on")
        more = _list(self.cpu_more)
        print(f"throughput of a core lost: {cost:.1%} (target {TARGET:.0%}); CPU a request more, by round: {more}")
        lost = _list(self.rates_lost)
        print(f"requests/s lost, by round: {lost}; median {statistics.median(self.rates_lost):.1%}")
        return cost


def collect() -> None:
    """What `collector_process` runs."""
    with collecting() as collector:
        print(collector.endpoint, flush=True)
        sys.stdin.read()
        print(len(collector.spans), flush=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.collect:
        collect()
        return 0
    need("nginx", "wrk")
    with ExitStack() as stack:
        ground = stack.enter_context(prepared())
        tiny = free_port()
        stack.enter_context(nginx(ground.folder, "tiny", tiny, TINY.format(port=tiny)))
        endpoint = stack.enter_context(collector_process())
        upstreams = {f"{service}_URL": f"http://127.0.0.1:{tiny}" for service in ("CATALOG", "INGEST", "LINEAGE")}
        traced = {"TRACE__ENDPOINT": endpoint, "TRACE__SAMPLE_RATIO": "0.1"}
        pids, ports = {}, {}
        for name, more in (("off", {}), ("on", traced)):
            ports[name] = free_port(), free_port()
            pids[name] = stack.enter_context(ground.gateway(name, *ports[name], {**upstreams, **more}))
        key = make_key(f"http://127.0.0.1:{ports['off'][0]}", ground.admin_key)
        stack.enter_context(scraping(f"http://127.0.0.1:{ports['on'][1]}/metrics"))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        tally = Tally()
        print(f"{'telemetry':10}{'requests/s':>12}{'CPU µs':>9}")
        for number in range(given.rounds):
            under_way = {}
            for name in ("off", "on") if number % 2 == 0 else ("on", "off"):
                target = f"http://127.0.0.1:{ports[name][0]}/v1/jobs"
                under_way[name] = pool.submit(measure, pids[name], target, given.seconds, given.connections, key)
            results = {name: measured.result() for name, measured in under_way.items()}
            tally.add({name: (rate, micros) for name, (rate, _, micros, _) in results.items()})
        spans = exported(ports["on"][1])
    print(f"spans: {', '.join(f'{count:,.0f} {outcome}' for outcome, count in sorted(spans.items()))}")
    return 0 if tally.tell() <= TARGET else 1


def _list(shares: list[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in sorted(shares))


if __name__ == "__main__":
    sys.exit(main())
