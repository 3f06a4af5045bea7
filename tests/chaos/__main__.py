"""`make chaos`: every fault during load, one table at the end; exit code 1 for any loss, duplicate or hang."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import httpx
from servers import kafka as kafka_server
from servers.finding import Servers
from servers.maven import java

from chaos import disk, isolation
from chaos.faults import Fault, kills, others
from chaos.ledger import Ledger, now
from chaos.report import Row, complaints, table
from chaos.rounds import NotWarm, play, prepare
from chaos.suite import Stage
from lakegate.embedded.layout import Home


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of each kill (20); everything else is done once")
    parser.add_argument("--minutes", type=float, default=120, help="no round is begun after that (120)")
    parser.add_argument("--only", action="append", help="a pattern of faults' names, such as 'kill*'; repeatable")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    wanted = parser.parse_args()
    # as Ctrl-C does: what was begun is ended
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # the jars are downloaded before there is no network any more
    kafka_server.fetch()
    java()
    isolated = isolation.why_not() is None
    if isolated:
        isolation.enter()
    folder = Path(tempfile.mkdtemp(prefix="lakegate-chaos-"))
    # the embedded PostgreSQL runs as another user where we are root
    folder.chmod(0o755)
    try:
        return _run(folder, wanted, isolated=isolated)
    finally:
        if wanted.keep:
            _say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def _run(folder: Path, wanted: argparse.Namespace, *, isolated: bool) -> int:
    # only what we started may be hurt
    os.environ.pop(kafka_server.ADDRESS, None)
    servers = Servers(folder / "servers")
    stage = None
    rows: list[Row] = []
    mounted = False
    home = Home.at(folder / "data")
    disks = [home.spool, home.warehouse] if isolated else []
    try:
        kafka = servers.get("kafka", {"packages": kafka_server.from_packages})
        small = folder / "disk" if isolated else None
        if small is not None:
            home.path.mkdir()
            home.marker.touch()
            isolation.mount_small_disk(small, disk.SIZE_BYTES, disks)
            mounted = True
        stage = Stage.start(folder, kafka)
        stage.disk, stage.isolated = small, isolated
        asyncio.run(_play_all(stage, wanted, rows))
    except KeyboardInterrupt:
        _say("interrupted: what follows is what was done until then")
    finally:
        if stage is not None:
            stage.stop()
        servers.stop()
        if mounted and not wanted.keep:
            isolation.unmount(*disks, folder / "disk")
    _say(f"\n{table(rows)}\n")
    if said := complaints(rows):
        _say(said)
    failed = [row.fault for row in rows if row.failed]
    if failed or not rows:
        _say(f"FAILED: {', '.join(failed) or 'nothing was done'}")
        return 1
    _say("Nothing was lost, nothing was doubled, nobody was left hanging.")
    return 0


async def _play_all(stage: Stage, wanted: argparse.Namespace, rows: list[Row]) -> None:
    """Adds a row for each fault to `rows`, before the first round, and completes them round by round."""
    faults = [
        fault
        for fault in [*kills(stage), *others()]
        if not wanted.only or any(fnmatch.fnmatchcase(fault.name, pattern) for pattern in wanted.only)
    ]
    by_name = {fault.name: Row(fault.name, fault.rounds or wanted.rounds, fault.needs(stage) or "") for fault in faults}
    mongodb = Row("kill -9 MongoDB", 0, "no real MongoDB that this run may kill; the stand-in is in memory")
    rows += [*by_name.values(), mongodb]
    await prepare(stage)
    end = now() + wanted.minutes * 60
    # in turn, so that what was killed has lived for a while before it is killed again
    for number in range(max((row.wanted for row in rows), default=0)):
        for index, fault in enumerate(faults):
            row = by_name[fault.name]
            if row.note or number >= row.wanted or now() > end:
                continue
            await _one(stage, fault, row, f"r{number}x{index}")


async def _one(stage: Stage, fault: Fault, row: Row, tag: str) -> None:
    began = now()
    try:
        ledger, back = await play(stage, fault, tag)
    except (NotWarm, TimeoutError, httpx.HTTPError) as error:
        # the others are still worth a table
        ledger, back = Ledger(violations=[f"the round broke off: {type(error).__name__}: {error}"]), None
    row.add(ledger, None if back is None else back.seconds)
    verdict = "ok" if not (ledger.lost or ledger.duplicates or ledger.violations or back is None) else "FAILED"
    _say(
        f"{fault.name}: round {row.rounds}/{row.wanted} {verdict}, {len(ledger.acknowledged())} acknowledged, "
        f"{len(ledger.lost)} lost, {len(ledger.duplicates)} doubled, back after "
        f"{'-' if back is None else f'{back.seconds:.1f} s, {back.last} last'} ({now() - began:.0f} s)"
    )
    for item in [*ledger.lost, *ledger.duplicates, *ledger.violations][:10]:
        _say(f"    {item}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
