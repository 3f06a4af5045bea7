"""The main job through one gateway: load rows of which one is bad, read them back, find where they came from.

Run by `helm test` and before a rollout switches. It needs what the gateway's image holds and nothing else, and writes
to a table of its own, which it drops at the end. Exit code 0 when every step was right; else the step that was not.
"""

import os
import sys
import time
from pathlib import Path
from uuid import uuid4

import httpx

URL = os.environ["LAKEGATE_URL"]
KEY = Path(os.environ["LAKEGATE_KEY_FILE"]).read_text().strip()
WITHIN_SECONDS = 60
ROWS = b"id,city,visitors\n1,Bergen,120\n2,Lisbon,many\n3,Osaka,310\n"
NAMESPACE, NAME = "lakegate_smoke", f"t{uuid4().hex[:12]}"


class Wrong(Exception):
    pass


def check(step: str, condition: object, answer: httpx.Response) -> None:
    if not condition:
        raise Wrong(f"{step}: {answer.request.method} {answer.request.url} answered {answer.status_code} {answer.text[:500]}")
    sys.stdout.write(f"ok  {step}\n")


def until(lake: httpx.Client, path: str, condition, **params: str) -> httpx.Response:
    """What follows a load goes through the event log: asked again until it is there."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        answer = lake.get(path, params=params)
        if (answer.status_code == 200 and condition(answer)) or time.monotonic() > deadline:
            return answer
        time.sleep(0.25)


def main() -> None:
    with httpx.Client(base_url=URL, headers={"authorization": f"Bearer {KEY}"}, timeout=45) as lake:
        answer = until(lake, "/readyz", lambda answer: True)
        check("the gateway is ready", answer.status_code == 200, answer)
        load = {"name": "smoke.csv"}
        headers = {"idempotency-key": NAME, "prefer": "wait=30"}
        path = f"/v1/loads/{NAMESPACE}/{NAME}"
        answer = lake.post(path, params=load, content=ROWS, headers=headers)
        if answer.status_code == 202:
            answer = until(lake, f"/v1/loads/{answer.json()['load_id']}", lambda answer: answer.json()["state"] == "completed")
        receipt = answer.json()
        counted = {key: receipt.get(key) for key in ("rows_in", "rows_written", "rows_quarantined")}
        check("two rows are written and the bad one is kept", counted == {"rows_in": 3, "rows_written": 2, "rows_quarantined": 1}, answer)
        answer = lake.post(path, params=load, content=ROWS, headers=headers)
        check("the same load again gives the first receipt", answer.json().get("load_id") == receipt["load_id"], answer)
        answer = lake.get(f"/v1/loads/{receipt['load_id']}/rejects")
        check("the bad row says why", "many" in answer.text, answer)
        answer = lake.get(f"/v1/tables/{NAMESPACE}/{NAME}/rows")
        check("the rows are read back", answer.status_code == 200 and "Osaka" in answer.text, answer)
        answer = until(lake, "/v1/search", lambda answer: NAME in answer.text, q=NAME)
        check("search finds the table", NAME in answer.text, answer)
        tenant = receipt.get("tenant", "default")
        answer = until(lake, "/v1/lineage/graph", lambda answer: "smoke.csv" in answer.text,
                       namespace=f"lakegate://{tenant}", name=f"{NAMESPACE}.{NAME}")
        check("lineage leads back to the file", "smoke.csv" in answer.text, answer)
        prefix = lake.get("/iceberg/v1/config", params={"warehouse": os.environ["LAKEGATE_WAREHOUSE"]}).json()
        prefix = {**prefix.get("defaults", {}), **prefix.get("overrides", {})}["prefix"]
        answer = lake.delete(f"/iceberg/v1/{prefix}/namespaces/{NAMESPACE}/tables/{NAME}", params={"purgeRequested": "true"})
        check("the table is dropped", answer.status_code in (200, 204), answer)


try:
    main()
except (Wrong, httpx.HTTPError, KeyError, ValueError) as error:
    sys.exit(f"FAILED  {type(error).__name__}: {error}")
