"""version."""

from __future__ import annotations

import platform

from lakegate import __version__
from lakegate.failures import explained
from lakegate.options import AsJson
from lakegate.output import Output


@explained
def version(as_json: AsJson = False) -> None:
    """Show the version."""
    output = Output(as_json=as_json)
    known = {"lakegate": __version__, "python": platform.python_version(), "platform": platform.platform(terse=True)}
    output.result(known, f"lakegate {__version__} (Python {known['python']}, {known['platform']})")
