"""The gateway's relay beside nginx, in one run: `python -m bench.gateway [--seconds 5] [--connections 64]`.

Both pass the same small request on to the same nginx, which answers 200 at once; wrk asks. The gateway does what it
does in service: API key, scopes, internal token, ids, one log line and metrics for each request, one trace in ten
exported. Counted are requests for each second of CPU that the process itself used (/proc), since all share the cores.
Then 1 GB goes up through the gateway and through nginx (unbuffered), to a process that counts it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from lakegate.embedded.postgres import EmbeddedPostgres
from lakegate_chassis.provision import provision
from lakegate_gateway.keygen import make_keys

TARGET = 0.15
TICKS = os.sysconf("SC_CLK_TCK")
NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 100000000; client_max_body_size 0;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {servers}
}}
"""
TINY = """
    server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{{"ok":true}}'; }} }}
"""
PROXY = """
    upstream tiny {{ server 127.0.0.1:{tiny}; keepalive 128; }}
    upstream sink {{ server 127.0.0.1:{sink}; }}
    server {{
        listen 127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
        location / {{ proxy_pass http://tiny; }} location /v1/loads/ {{ proxy_pass http://sink; }} }}
"""


class Sink(asyncio.Protocol):
    """Takes one request after another and answers 204 when its body has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.left = 0
        self.head = b""

    def data_received(self, data: bytes) -> None:
        if not self.left:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            head, _, data = self.head.partition(b"\r\n\r\n")
            self.head = b""
            self.left = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
        self.left -= len(data)
        if not self.left:
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[attr-defined]


async def serve_sink(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


def need(*programs: str) -> None:
    """Install what is missing from Debian's packages, or say that it has to be."""
    missing = [program for program in programs if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"This needs {' and '.join(missing)}. On Debian: apt-get install {' '.join(missing)}")
    subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], check=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path, **environment: str) -> Iterator[int]:
    """A process that listens on `port`; yields its pid."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environment)
        try:
            until = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 0.2).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > until:
                        sys.exit(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
                    time.sleep(0.05)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@contextmanager
def nginx(folder: Path, name: str, port: int, servers: str) -> Iterator[int]:
    """nginx with one worker; yields the worker's pid."""
    config = folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=folder, name=name, servers=servers))
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx"
    with running([program, "-c", str(config), "-p", str(folder)], port, folder / f"{name}.log") as master:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        yield int(children[0])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(pid: int, url: str, seconds: int, connections: int, key: str) -> tuple[float, float, float, str]:
    """Requests/s, requests for each CPU second of `pid`, CPU microseconds a request, and wrk's p99."""
    command = ["wrk", "-t1", f"-c{connections}", "--latency", "-H", f"Authorization: Bearer {key}"]
    subprocess.run([*command, "-d1s", url], check=True, capture_output=True)  # warm
    before = cpu_seconds(pid)
    text = subprocess.run([*command, f"-d{seconds}s", url], check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(pid) - before
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"not all requests were answered:\n{text}")
    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    p99 = re.search(r"99%\s+(\S+)", text)[1]  # type: ignore[index]
    return requests / seconds, requests / used, used / requests * 1e6, p99


def upload(pid: int, url: str, file: Path, key: str) -> tuple[float, float]:
    """MB/s, and MB for each CPU second of `pid`."""
    megabytes = file.stat().st_size / 1e6
    before, began = cpu_seconds(pid), time.monotonic()
    command = ["curl", "-sS", "-f", "-o", "/dev/null", "-H", "Expect:", "-H", f"Authorization: Bearer {key}"]
    subprocess.run([*command, "-X", "POST", "-T", str(file), url], check=True)
    return megabytes / (time.monotonic() - began), megabytes / (cpu_seconds(pid) - before)


def make_key(url: str, admin_key: str) -> str:
    """An ordinary caller's key, with a namespace pattern to check."""
    body = {"name": "bench", "scopes": ["lineage:read", "loads:write@travel.*"]}
    answer = httpx.post(f"{url}/v1/keys", json=body, headers={"authorization": f"Bearer {admin_key}"})
    return str(answer.raise_for_status().json()["key"])


@dataclass(frozen=True)
class Ground:
    """What a gateway needs beside its upstreams. `admin_key` makes the keys of its callers."""

    folder: Path
    postgres_url: str
    private_key: Path
    admin_key: str

    @contextmanager
    def gateway(self, name: str, port: int, management: int, settings: Mapping[str, str]) -> Iterator[int]:
        """`python -m lakegate_gateway` with `settings` (CATALOG_URL: …); yields its pid."""
        every = {
            "PORT": str(port),
            "MANAGEMENT_PORT": str(management),
            "POSTGRES__URL": self.postgres_url,
            "TOKEN__PRIVATE_KEY": str(self.private_key),
            "BOOTSTRAP__KEY": self.admin_key,
            "DRAIN_SECONDS": "0",
            **settings,
        }
        environment = {f"GATEWAY_{setting}": value for setting, value in every.items()}
        command = [sys.executable, "-m", "lakegate_gateway"]
        with running(command, port, self.folder / f"{name}.log", **environment) as pid:
            yield pid


@contextmanager
def prepared() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # nginx's worker is another user
        folder.chmod(0o777)
        postgres = EmbeddedPostgres(folder / "pg")
        admin_url = postgres.start()
        try:
            url = asyncio.run(provision(admin_url, {"gateway": secrets.token_urlsafe(16)}))["gateway"]
            private, _ = make_keys(folder / "keys")
            yield Ground(folder, url, private, "lgk_" + secrets.token_urlsafe(32))
        finally:
            postgres.stop()


@dataclass(frozen=True)
class Relay:
    """One of the two that are compared."""

    name: str
    pid: int
    port: int


def compare_requests(relays: Sequence[Relay], key: str, rounds: int, seconds: int, connections: int) -> float:
    """The median of the second's rate by the first's, requests for each CPU second."""
    ratios = []
    print(f"{'':10}{'requests/s':>12}{'per core':>12}{'CPU µs':>9}{'p99':>10}")
    for _ in range(rounds):
        rates = []
        for relay in relays:
            url = f"http://127.0.0.1:{relay.port}/v1/jobs"
            rate, per_core, micros, p99 = measure(relay.pid, url, seconds, connections, key)
            rates.append(per_core)
            print(f"{relay.name:10}{rate:12,.0f}{per_core:12,.0f}{micros:9.1f}{p99:>10}")
        ratios.append(rates[1] / rates[0])
    ratio = sorted(ratios)[len(ratios) // 2]
    told = ", ".join(f"{each:.3f}" for each in ratios)
    print(f"gateway / nginx, per core: {ratio:.3f} (target {TARGET}; rounds {told})\n")
    return ratio


def compare_uploads(relays: Sequence[Relay], key: str, file: Path, megabytes: int) -> None:
    with file.open("wb") as out:
        out.truncate(megabytes * 1_000_000)
    print(f"{'':10}{'MB/s':>12}{'per core':>12}   one upload of {megabytes:,} MB")
    for relay in relays:
        speed, per_core = upload(relay.pid, f"http://127.0.0.1:{relay.port}/v1/loads/travel/flights", file, key)
        print(f"{relay.name:10}{speed:12,.0f}{per_core:12,.0f}")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--upload-mb", type=int, default=1000)
    options.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.sink:
        asyncio.run(serve_sink(given.sink))
    need("nginx", "wrk", "curl")
    with ExitStack() as stack:
        ground = stack.enter_context(prepared())
        folder = ground.folder
        tiny, proxy, port, management, sink = (free_port() for _ in range(5))
        stack.enter_context(nginx(folder, "tiny", tiny, TINY.format(port=tiny)))
        stack.enter_context(running([sys.executable, __file__, "--sink", str(sink)], sink, folder / "sink.log"))
        worker = stack.enter_context(nginx(folder, "proxy", proxy, PROXY.format(port=proxy, tiny=tiny, sink=sink)))
        gateway = ground.gateway(
            "gateway",
            port,
            management,
            {
                "CATALOG_URL": f"http://127.0.0.1:{tiny}",
                "LINEAGE_URL": f"http://127.0.0.1:{tiny}",
                "INGEST_URL": f"http://127.0.0.1:{sink}",
                "TRACE__ENDPOINT": f"http://127.0.0.1:{tiny}/v1/traces",
                "TRACE__SAMPLE_RATIO": "0.1",
            },
        )
        relays = Relay("nginx", worker, proxy), Relay("gateway", stack.enter_context(gateway), port)
        key = make_key(f"http://127.0.0.1:{port}", ground.admin_key)
        ratio = compare_requests(relays, key, given.rounds, given.seconds, given.connections)
        if given.upload_mb:
            compare_uploads(relays, key, folder / "upload", given.upload_mb)
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
