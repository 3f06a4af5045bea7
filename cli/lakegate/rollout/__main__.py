"""`python -m lakegate.rollout`: what the Job runs; its arguments are those of `lakegate rollout drive`."""

from __future__ import annotations

import sys

from lakegate.main import app

if __name__ == "__main__":
    app(["rollout", "drive", *sys.argv[1:]])
