"""`python -m lakegate` is `lakegate`."""

from lakegate.main import app

app(prog_name="lakegate")
