"""Every command against a real suite, as people and as programs call it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suites import Suite

from lakegate import Client
from lakegate.rollout.states import READS, SEARCH
from lakegate_gateway.routes import match

ORDERS = "id,amount,day\n1,10.5,2024-01-01\n2,20,2024-01-02\n3,30,2024-01-03\n"
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory, answer: Run) -> Any:
    """The receipt of a first load to shop.orders."""
    file = tmp_path_factory.mktemp("files") / "orders.csv"
    file.write_text(ORDERS)
    return answer("push", str(file), "shop.orders")


@pytest.fixture(scope="module")
def dirty(orders: Any, answer: Run) -> Any:
    """The receipt of a load of which two rows were set aside."""
    body = b"id,amount,day\n4,forty,2024-01-04\n5,50,2024-01-05\n6,60,yesterday\n"
    return answer("push", "-", "shop.orders", "--name", "dirty.csv", stdin=body)


def test_push_answers_the_receipt(orders: Any) -> None:
    assert orders["table"] == "shop.orders"
    assert orders["rows_written"] == 3
    assert orders["files"][0]["name"] == "orders.csv"


def test_push_without_a_terminal_says_its_steps_line_by_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("a\n1\n")

    done = run("push", str(file), "shop.lines")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.match(r"few\.csv: sent 4 B \(\d+ ms\)", lines[0])
    assert any(line.startswith("few.csv: committed") for line in lines)
    assert any(line.startswith("rows written") for line in lines)
    assert "\x1b[" not in done.stdout


def test_push_reads_standard_input_and_compressed_files(answer: Run, tmp_path: Path) -> None:
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"a\n1\n2\n"))

    assert answer("push", str(packed), "shop.packed")["rows_written"] == 2
    assert answer("push", "-", "shop.packed", stdin=b"a\n3\n")["rows_written"] == 1


def test_the_same_file_pushed_twice_loads_twice_unless_a_key_says_otherwise(answer: Run, tmp_path: Path) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("a\n1\n")

    first, second = answer("push", str(file), "shop.twice"), answer("push", str(file), "shop.twice")
    key = ("--idempotency-key", "twice-1")
    third, fourth = (answer("push", str(file), "shop.twice", *key) for _ in range(2))

    assert first["load_id"] != second["load_id"]
    assert third == fourth
    assert answer("sql", "SELECT count(*) AS n FROM shop.twice")["rows"] == [{"n": 3}]


def test_a_dry_run_writes_nothing(answer: Run, run: Run) -> None:
    receipt = answer("push", "-", "shop.dry", "--dry-run", stdin=b"a\n1\n")

    assert receipt["dry_run"] is True
    assert run("show", "shop.dry").returncode == 3


def test_no_wait_gives_the_load_to_look_at_later(answer: Run) -> None:
    load = answer("push", "-", "shop.later", "--no-wait", stdin=b"a\n1\n")

    assert answer("loads", load["load_id"])["load_id"] == load["load_id"]


def test_rejects_name_file_line_column_value_and_reason(dirty: Any, answer: Run, run: Run) -> None:
    items = answer("rejects", dirty["load_id"])

    assert [(item["file"], item["line"], item["column"], item["value"]) for item in items] == [
        ("dirty.csv", 2, "amount", "forty"),
        ("dirty.csv", 4, "day", "yesterday"),
    ]
    shown = run("rejects", dirty["load_id"], "--limit", "1").stdout
    assert "forty" in shown
    assert "More than 1" in shown


def test_rejects_are_written_to_a_file_that_can_be_mended_and_pushed(answer: Run, run: Run, tmp_path: Path) -> None:
    answer("push", "-", "shop.mended", stdin=b"id,amount,note\n1,1.5,a\n")
    dirty = b'amount;note;id\nforty;"a ""b""\nc;d";x\n2.5;fine;2\n3.5;e;three\n'
    load = answer("push", "-", "shop.mended", stdin=dirty)
    mended = tmp_path / "mended.csv"
    told = run("rejects", load["load_id"], "--output", str(mended)).stdout
    assert told.startswith(f"2 rows in {mended}. ")
    assert mended.read_bytes() == b'amount;note;id\nforty;"a ""b""\nc;d";x\n3.5;e;three\n'
    again = run("rejects", load["load_id"], "--output", str(mended))
    assert again.returncode != 0
    assert "is there already" in again.stderr
    mended.write_bytes(mended.read_bytes().replace(b"forty", b"40.5").replace(b"x\n", b"4\n").replace(b"three", b"3"))
    assert told.rstrip().endswith(f"lakegate push {mended} shop.mended --format csv")
    assert answer("push", str(mended), "shop.mended", "--format", "csv")["quarantine"]["rows"] == 0
    assert answer("sql", "SELECT sum(id) AS s, sum(amount) AS a FROM shop.mended")["rows"] == [{"s": 10, "a": 48.0}]

    lines = b'[{"id": 1,\n "amount": "x",\n "note": "u\xe2\x80\xa8v"}, {"id": 5, "amount": 1, "note": null}]'
    load = answer("push", "-", "shop.mended", "--format", "json", stdin=lines)
    mended = tmp_path / "mended.ndjson"
    document = answer("rejects", load["load_id"], "--output", str(mended))
    assert document == {"file": str(mended), "rows": 1, "format": "ndjson", "header": False}
    [line] = mended.read_text().split("\n")[:-1]
    assert json.loads(line) == {"id": 1, "amount": "x", "note": "u\u2028v"}
    clean = answer("push", "-", "shop.mended", stdin=b"id\n9\n")
    assert "No row was set aside" in run("rejects", clean["load_id"], "-o", str(tmp_path / "none")).stdout
    assert not (tmp_path / "none").exists()


def test_names_that_look_like_markup_are_shown_as_they_are(answer: Run, run: Run, suite: Suite) -> None:
    answer("push", "-", "shop.markup", "--name", "[/b].csv", stdin=b"a[/b],root:x:0,[red]c\n1,2,x\xe2\x80\xa8y\n")
    with Client(suite.url, suite.key) as lake:
        lake.describe_dataset(answer("show", "shop.markup")["dataset"]["id"], tags=["[/b]", ":x:"], owner="[b]:x:")

    asked = run("sql", "SELECT * FROM shop.markup")
    assert [line.split() for line in asked.stdout.split("\n")] == [
        ["a[/b]", "root:x:0", "[red]c"],
        ["1", "2", "x\\u2028y"],
        [],
    ]
    for said in (run("show", "shop.markup"), run("ls", "shop")):
        assert said.returncode == 0, said.stderr
        assert "[/b], :x:" in said.stdout
        assert "[b]:x:" in said.stdout


def test_ls_lists_and_narrows_to_a_namespace(orders: Any, answer: Run) -> None:
    assert "shop.orders" in [item["name"] for item in answer("ls")]
    assert answer("ls", "nowhere") == []


def test_show_has_schema_and_versions(orders: Any, answer: Run, run: Run) -> None:
    document = answer("show", "shop.orders")

    assert [field["name"] for field in document["dataset"]["schema"]["fields"]] == ["id", "amount", "day"]
    assert document["versions"]
    text = run("show", "shop.orders").stdout
    assert re.search(r"^ *1 +id +(int|long)", text, re.MULTILINE)


def test_search_sees_a_write_by_its_token_and_forgives(orders: Any, answer: Run) -> None:
    found = answer("search", "ordres", "--token", orders["consistency_token"])

    assert "shop.orders" in [item["name"] for item in found["items"]]


def test_lineage_is_drawn_and_given(orders: Any, answer: Run, run: Run) -> None:
    assert {"nodes", "edges", "truncated"} <= answer("lineage", "shop.orders").keys()
    assert "shop.orders" in run("lineage", "shop.orders").stdout


def test_sql_reads_types_joins_and_is_bounded(orders: Any, answer: Run, run: Run) -> None:
    joined = answer("sql", "SELECT a.id FROM shop.orders a JOIN shop.orders b USING (id) WHERE a.id <= 3 ORDER BY id")
    assert [row["id"] for row in joined["rows"]] == [1, 2, 3]

    cut = answer("sql", "SELECT * FROM shop.orders ORDER BY id", "--limit", "2")
    assert cut["truncated"] is True
    assert cut["rows"][0]["day"] == "2024-01-01"

    assert "cut at 1 rows" in run("sql", "SELECT * FROM shop.orders", "--limit", "1").stderr


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT * FROM shop.nothing", "no table shop.nothing"),
        ("DROP TABLE shop.orders", "Only queries"),
        ("SELEC", "syntax"),
        ("SELECT 1; SELECT 2", "one at a time"),
        ("", "no query"),
        ("/* SELECT 1 */ ;", "no query"),
        ("SELECT * FROM a.b.c", '"a.b".c'),
        ("SELECT * FROM a.b.c.d", "double quotes"),
    ],
)
def test_sql_says_what_is_wrong(orders: Any, run: Run, query: str, says: str) -> None:
    done = run("sql", query)

    assert done.returncode in (2, 3)
    assert says in done.stderr
    assert done.stdout == ""


def test_sql_reads_timestamps_with_a_zone_and_wide_integers(answer: Run) -> None:
    answer("push", "-", "shop.moments", stdin=b"id,at\n1,2013-01-01T10:00:00Z\n2,\n3,2013-01-01T12:00:00+02:00\n")

    rows = answer("sql", "SELECT * FROM shop.moments ORDER BY id")["rows"]
    [grouped] = answer(
        "sql",
        "SELECT count(*) AS n, sum(id) AS s, timestamp_ns '2020-01-01 00:00:00.123456789' AS ns, "
        "now() AS at FROM shop.moments",
    )["rows"]

    assert [row["at"] for row in rows] == ["2013-01-01 10:00:00+00:00", None, "2013-01-01 10:00:00+00:00"]
    assert (grouped["n"], grouped["s"]) == (3, 6)
    assert grouped["ns"] == "2020-01-01 00:00:00.123456789"
    assert grouped["at"].endswith("+00:00")


def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(run: Run) -> None:
    for key in ("lgk_s3cret\nx", "lgk_s3crët"):
        for command in (("ls",), ("sql", "SELECT * FROM shop.orders")):
            done = run(*command, LAKEGATE_KEY=key, LAKEGATE_URL="http://127.0.0.1:9")
            assert done.returncode == 1, done.stderr
            assert "API key" in done.stderr
            assert "s3cr" not in done.stderr


def test_white_space_around_a_key_and_a_slash_behind_the_address_do_no_harm(
    orders: Any, run: Run, suite: Suite
) -> None:
    given = {"LAKEGATE_KEY": f" {suite.key}\n", "LAKEGATE_URL": f"{suite.url}/"}

    for command in (("ls",), ("sql", "SELECT count(*) FROM shop.orders")):
        done = run(*command, **given)
        assert done.returncode == 0, done.stderr


def test_sql_with_a_wrong_key_or_at_a_wrong_address_says_so(run: Run, suite: Suite) -> None:
    denied = run("sql", "SELECT 1", LAKEGATE_KEY="lgk_wrong")
    lost = run("sql", "SELECT 1", LAKEGATE_URL=f"{suite.url}/docs", LAKEGATE_KEY=suite.key)

    assert denied.returncode == 4, denied.stderr
    assert lost.returncode in (1, 3), lost.stderr
    assert "Traceback" not in denied.stderr + lost.stderr


def test_ls_of_what_is_no_namespace_says_so(orders: Any, run: Run) -> None:
    assert run("ls", "///").returncode == 2
    assert "Nothing in the namespace nowhere" in run("ls", "nowhere").stdout


def test_a_problem_says_each_thing_once_and_where_it_is_explained(run: Run, suite: Suite) -> None:
    done = run("push", "-", "shop.orders", "--delimiter", "||", stdin=b"a\n1\n")

    assert done.returncode == 3
    said = [line.strip(" -") for line in done.stderr.splitlines()]
    assert len([line for line in said if "delimiter" in line.lower()]) == 1, done.stderr
    assert f"see {suite.url}/problems/" in done.stderr


def test_keys_are_made_listed_used_and_revoked(answer: Run, run: Run, orders: Any) -> None:
    made = answer("keys", "create", "reader", "-s", "datasets:read", "--days", "1")
    assert made["id"] in [item["id"] for item in answer("keys", "list")]

    reading = {"LAKEGATE_KEY": made["key"]}
    assert run("ls", **reading).returncode == 0
    assert run("push", "-", "shop.orders", stdin=b"id\n9\n", **reading).returncode == 4

    assert answer("keys", "revoke", made["id"]) == {"id": made["id"], "revoked": True}
    assert run("ls", **reading).returncode == 4


def test_a_rollout_s_reads_are_answered_by_a_whole_suite_with_the_least_scopes(answer: Run, suite: Suite) -> None:
    made = answer("keys", "create", "reader", "-s", "datasets:read", "-s", "lineage:read", "--days", "1")
    with suite.client(made["key"]) as client:
        assert {path: client.get(path).status_code for path in (*READS, SEARCH)} == dict.fromkeys((*READS, SEARCH), 200)
    routes = [match(path.partition("?")[0]) for path in READS]
    assert {route.upstream for route in routes if route} == {"catalog", "ingest", "lineage"}


def test_who_may_only_read_datasets_is_shown_a_table_and_told_what_is_missing(
    answer: Run, run: Run, orders: Any, suite: Suite
) -> None:
    made = answer("keys", "create", "partial", "-s", "datasets:read", "--days", "1")
    reading = {"LAKEGATE_KEY": made["key"]}

    shown = run("show", "shop.orders", **reading)
    document = run("show", "shop.orders", "--json", **reading)
    drawn = run("lineage", "shop.orders", **reading)

    assert shown.returncode == 0, shown.stderr
    assert "shop.orders" in shown.stdout
    assert "without lineage: The lineage needs the scope lineage:read." in shown.stdout
    assert json.loads(document.stdout)["dataset"]["name"] == "shop.orders"
    assert "without lineage" in document.stderr
    assert (drawn.returncode, "lineage:read" in drawn.stderr) == (4, True), drawn.stderr
    with Client(suite.url, made["key"]) as lake:
        overview = lake.overview("shop.orders")
    assert overview.dataset is not None
    assert [(problem.part, problem.slug, problem.errors) for problem in overview.errors] == [
        ("lineage", "forbidden", [])
    ]


def test_a_refusal_shows_title_detail_and_trace_and_exits_3(run: Run) -> None:
    done = run("push", "-", "shop.empty", stdin=b"")

    assert done.returncode == 3
    assert "error:" in done.stderr
    assert "/problems/" in done.stderr
    assert "trace" in done.stderr


def test_a_refusal_with_json_is_a_problem_on_stderr_and_nothing_on_stdout(run: Run) -> None:
    done = run("show", "shop.nothing", "--json")

    assert done.returncode == 3
    assert done.stdout == ""
    assert json.loads(done.stderr)["status"] == 404


def test_a_missing_file_and_a_bad_name_are_said_plainly(run: Run) -> None:
    missing = run("push", "no-such.csv", "shop.orders")
    unnamed = run("push", "-", "orders", stdin=b"a\n1\n")

    assert missing.returncode == 1
    assert "no-such.csv" in missing.stderr
    assert unnamed.returncode == 2
    assert "travel.flights" in unnamed.stderr
    assert "Traceback" not in missing.stderr + unnamed.stderr


def test_a_gateway_that_is_not_there_exits_6_with_a_hint(run: Run) -> None:
    done = run("ls", LAKEGATE_URL="http://127.0.0.1:9", LAKEGATE_KEY="x")

    assert done.returncode == 6
    assert "http://127.0.0.1:9" in done.stderr
    assert "lakegate status" in done.stderr


def test_no_configuration_says_how_to_get_one(run: Run, tmp_path: Path) -> None:
    done = run("ls", LAKEGATE_CONFIG=str(tmp_path / "none.toml"))

    assert done.returncode == 1
    assert "lakegate up" in done.stderr


def test_status_and_version_are_documents_too(answer: Run) -> None:
    assert answer("status")["phase"] == "ready"
    assert answer("version")["lakegate"]


def test_completion_is_offered(run: Run) -> None:
    done = run("--show-completion", "bash", SHELL="/bin/bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")

    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout


def test_streaming_without_kafka_names_the_setting(run: Run) -> None:
    done = run("stream", "push", "-", "shop.clicks", stdin=b'{"id": 1}\n')
    assert done.returncode != 0
    assert "INGEST_KAFKA__BOOTSTRAP" in done.stdout + done.stderr
