"""The main job through one gateway: load rows of which one is bad, read them back, find where they came from.

Run by `helm test`, by a rollout never. It needs what the gateway's image holds and nothing else, and writes
to a table of its own, which it drops at the end. Exit code 0 when every step was right; else it names the step.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx

WITHIN_SECONDS = 60
NAMESPACE, NAME = "lakegate_smoke", f"t{uuid4().hex[:12]}"
HEADER = "id,city,visitors\n"
CLEAN, DIRTY = HEADER + "1,Bergen,120\n2,Lisbon,95\n", HEADER + "3,Osaka,310\n4,Quito,many\n"


class Wrong(Exception):
    """A step went wrong; the message says which, and what was answered."""


def check(step: str, is_right: bool, answer: httpx.Response) -> None:
    if not is_right:
        asked = f"{answer.request.method} {answer.request.url}"
        raise Wrong(f"{step}: {asked} answered {answer.status_code} {answer.text[:500]}")
    sys.stdout.write(f"ok  {step}\n")


def until(lake: httpx.Client, path: str, is_there: Callable[[httpx.Response], bool], **query: str) -> httpx.Response:
    """Ask again until it is there: what follows a load goes through the event log. Then, or in the end, the answer."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        answer = lake.get(path, params=query)
        if (answer.status_code == 200 and is_there(answer)) or time.monotonic() > deadline:
            return answer
        time.sleep(0.25)


def push(lake: httpx.Client, name: str, rows: str) -> tuple[httpx.Response, dict]:
    """The answer and the receipt, which is waited for where the server is slow."""
    headers = {"idempotency-key": f"{NAME}-{name}", "prefer": "wait=30"}
    answer = lake.post(f"/v1/loads/{NAMESPACE}/{NAME}", params={"name": name}, content=rows.encode(), headers=headers)
    if answer.status_code == 202:
        answer = until(lake, answer.headers["location"], lambda load: load.json()["state"] == "completed")
        return answer, answer.json().get("receipt") or {}
    return answer, answer.json()


def main_job(lake: httpx.Client, warehouse: str) -> None:
    answer = until(lake, "/readyz", lambda answer: True)
    check("the gateway is ready", answer.status_code == 200, answer)

    answer, first = push(lake, "clean.csv", CLEAN)
    check("two rows are written", first.get("rows_written") == 2, answer)
    answer, again = push(lake, "clean.csv", CLEAN)
    check("the same load again gives the first receipt", again.get("load_id") == first["load_id"], answer)
    answer, receipt = push(lake, "dirty.csv", DIRTY)
    counted = (receipt.get("rows_in"), receipt.get("rows_written"), receipt.get("quarantine", {}).get("rows"))
    check("of two rows the bad one is set aside", counted == (2, 1, 1), answer)
    answer = lake.get(receipt["quarantine"]["href"])
    check("it is kept with its reason", answer.status_code == 200 and "many" in answer.text, answer)

    answer = lake.get(f"/v1/tables/{NAMESPACE}/{NAME}/rows")
    rows = answer.text
    check("the rows are read back", all(city in rows for city in ("Bergen", "Lisbon", "Osaka")), answer)
    answer = lake.get("/v1/search", params={"q": NAME, "consistency_token": receipt["consistency_token"]})
    check("a search with the receipt's token finds the table", NAME in answer.text, answer)
    node = {"namespace": f"lakegate://{receipt['tenant']}", "name": f"{NAMESPACE}.{NAME}"}
    answer = until(lake, "/v1/lineage/graph", lambda answer: "dirty.csv" in answer.text, **node)
    check("lineage leads back to the files", "clean.csv" in answer.text and "dirty.csv" in answer.text, answer)

    config = lake.get("/iceberg/v1/config", params={"warehouse": warehouse}).json()
    prefix = {**config.get("defaults", {}), **config.get("overrides", {})}["prefix"]
    table = f"/iceberg/v1/{prefix}/namespaces/{NAMESPACE}/tables/{NAME}"
    answer = lake.delete(table, params={"purgeRequested": "true"})
    check("the table is dropped", answer.status_code in (200, 204), answer)


def main() -> None:
    key = Path(os.environ["LAKEGATE_KEY_FILE"]).read_text().strip()
    headers = {"authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=os.environ["LAKEGATE_URL"], headers=headers, timeout=45) as lake:
            main_job(lake, os.environ["LAKEGATE_WAREHOUSE"])
    except (Wrong, httpx.HTTPError, KeyError, ValueError) as error:
        sys.exit(f"FAILED  {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
