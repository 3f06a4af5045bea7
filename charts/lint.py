"""`helm lint --strict` of every chart, the umbrella once for each environment and release."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
UMBRELLA = HERE / "lakegate"
# a service by itself needs what the umbrella's values would say
ALONE = ("--set", "global.publicUrl=https://lake.example.com", "--set", "global.warehouse.location=s3://lake/warehouse")


def main() -> int:
    # the one that the lock names comes before another on PATH
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/bin:/bin"
    helm = shutil.which("helm", path=path) or shutil.which("helm")
    if helm is None:
        sys.stdout.write("helm can't be had here: charts are not linted\n")
        return 0
    runs = [[chart.parent, *ALONE] for chart in sorted(HERE.glob("*/Chart.yaml")) if chart.parent.name != "lakegate"]
    for environment in sorted((UMBRELLA / "environments").glob("*.yaml")):
        runs += [[UMBRELLA, "--values", environment]]
        runs += [
            [UMBRELLA, "--values", environment, "--values", release]
            for release in sorted((UMBRELLA / "releases").glob("*.yaml"))
        ]
    failed = 0
    for run in runs:
        done = subprocess.run([helm, "lint", "--strict", "--quiet", *run], capture_output=True, text=True, check=False)
        if done.returncode:
            failed += 1
            sys.stdout.write(done.stdout + done.stderr)
    sys.stdout.write(f"{len(runs) - failed} of {len(runs)} lint runs of charts passed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
