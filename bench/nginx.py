"""nginx as the yardstick for uploads: PUT to a folder, nothing else."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """
daemon off; {user} worker_processes 1; pid {work}/pid; error_log {work}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off; client_max_body_size 20g;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ root {stored}; dav_methods PUT; }} }}
}}
"""


@contextmanager
def storing(work: Path, stored: Path) -> Iterator[str]:
    """Run nginx on a free port of the loopback; it stores each PUT in `stored`. Yields its URL."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("nginx is not installed; on Debian: apt-get install nginx-light")
    for folder in (work, stored):
        folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # as root the workers would run as nobody, who may not write here
    user = "user root;" if getpass.getuser() == "root" else ""
    config = work / "nginx.conf"
    config.write_text(CONFIG.format(user=user, work=work, stored=stored, port=port))
    process = subprocess.Popen([program, "-c", config])
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something listens; SystemExit when nginx ended instead."""
    for _ in range(100):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise SystemExit("nginx did not start; its error is above")
        time.sleep(0.05)
    raise SystemExit("nginx did not listen within 5 s")
