"""How the client behaves when the network does not: transports here only inject failures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import lakegate
from lakegate.client import AsyncClient, BadSetting, Client, Refused, Retries, ServiceFailed, Unreachable
from lakegate.client.errors import BrokenAnswer, LoadFailed, NotAllowed, NotFound, StillRunning
from lakegate.rejected import write_rejected

QUICK = Retries(attempts=3, first_seconds=0.001, longest_seconds=0.01)
LOAD_ID = str(uuid4())
COMPLETED_LOAD = {"load_id": LOAD_ID, "state": "completed", "table": "a.b"}
RECEIPT = {
    "load_id": LOAD_ID,
    "tenant": "t",
    "table": "a.b",
    "files": [],
    "rows_in": 3,
    "rows_written": 0,
    "quarantine": {"rows": 3, "href": f"/v1/loads/{LOAD_ID}/rejects"},
    "snapshot_id": None,
    "catalog_version": None,
    "consistency_token": None,
    "run_id": LOAD_ID,
    "trace_id": "t1",
    "request_id": "r1",
    "started_at": "2024-01-01T00:00:00Z",
    "completed_at": "2024-01-01T00:00:01Z",
}


class Failing:
    """Answers from a list, the last one for ever; an exception in it is raised."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(failing: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://gateway", "lgk_x", retries=QUICK, transport=httpx.MockTransport(failing))


def problem(status: int, **members: Any) -> httpx.Response:
    body = {"type": "/problems/some", "title": "Some", "status": status, "detail": "What to do.", "trace_id": "t1"}
    return httpx.Response(status, json=body | members, headers={"content-type": "application/problem+json"})


def test_the_package_offers_the_client_without_importing_it_early() -> None:
    assert lakegate.Client is Client
    assert lakegate.AsyncClient is AsyncClient


def test_a_refused_connection_is_tried_again() -> None:
    failing = Failing(httpx.ConnectError("refused"), httpx.Response(200, json=COMPLETED_LOAD))

    with client(failing) as lake:
        assert str(lake.load(LOAD_ID).load_id) == LOAD_ID

    assert len(failing.requests) == 2


def test_giving_up_names_the_address() -> None:
    with client(Failing(httpx.ConnectError("refused"))) as lake, pytest.raises(Unreachable, match="http://gateway"):
        lake.loads()


def test_a_503_is_tried_again_when_it_says_when() -> None:
    failing = Failing(
        httpx.Response(503, headers={"retry-after": "0"}, json={}), httpx.Response(200, json=COMPLETED_LOAD)
    )

    with client(failing) as lake:
        lake.load(LOAD_ID)

    assert len(failing.requests) == 2


def test_a_503_that_does_not_say_when_is_the_answer() -> None:
    failing = Failing(problem(503))

    with client(failing) as lake, pytest.raises(ServiceFailed):
        lake.load(LOAD_ID)

    assert len(failing.requests) == 1


def test_a_longer_wait_than_ours_is_handed_to_the_caller() -> None:
    failing = Failing(httpx.Response(503, headers={"retry-after": "600"}, json={}))

    with client(failing) as lake, pytest.raises(ServiceFailed):
        lake.load(LOAD_ID)

    assert len(failing.requests) == 1


def test_an_upload_whose_outcome_is_unknown_is_sent_again_under_the_same_key() -> None:
    failing = Failing(httpx.ReadError("reset"), httpx.Response(202, json=COMPLETED_LOAD))

    with client(failing) as lake:
        lake.start_push(b"a,b\n1,2\n", "shop.orders")

    assert failing.bodies == [b"a,b\n1,2\n"] * 2
    keys = {request.headers["idempotency-key"] for request in failing.requests}
    assert len(keys) == 1


def test_each_try_of_a_call_is_a_span_of_one_trace() -> None:
    failing = Failing(httpx.ConnectError("refused"), httpx.Response(200, json=COMPLETED_LOAD))

    with client(failing) as lake:
        lake.load(LOAD_ID)
        lake.load(LOAD_ID)

    first, again, other = (request.headers["traceparent"].split("-") for request in failing.requests)
    assert [len(part) for part in first] == [2, 32, 16, 2]
    assert first[1] == again[1] != other[1]
    assert first[2] != again[2]
    assert first[3] == "00"  # the gateway decides what it records


def test_a_call_asks_to_be_recorded_or_goes_on_with_the_trace_of_the_application() -> None:
    failing = Failing(httpx.Response(200, json=COMPLETED_LOAD))
    span = SpanContext(int("ab" * 16, 16), int("cd" * 8, 16), is_remote=False, trace_flags=TraceFlags(1))

    with Client("http://gateway", transport=httpx.MockTransport(failing), record_traces=True) as lake:
        lake.load(LOAD_ID)
        with trace.use_span(NonRecordingSpan(span)):
            lake.load(LOAD_ID)

    asked, joined = (request.headers["traceparent"] for request in failing.requests)
    assert asked.endswith("-01")
    assert joined == f"00-{'ab' * 16}-{'cd' * 8}-01"


def test_two_pushes_have_two_keys() -> None:
    failing = Failing(httpx.Response(202, json=COMPLETED_LOAD))

    with client(failing) as lake:
        lake.start_push(b"x", "shop.orders")
        lake.start_push(b"x", "shop.orders")

    assert len({request.headers["idempotency-key"] for request in failing.requests}) == 2


def test_an_upload_without_a_key_is_not_sent_again() -> None:
    failing = Failing(httpx.ReadError("reset"))

    with client(failing) as lake, pytest.raises(Unreachable):
        lake.start_push(b"x", "shop.orders", idempotency_key=None)

    assert len(failing.requests) == 1


def test_a_stream_that_can_not_be_read_anew_is_not_sent_again() -> None:
    failing = Failing(httpx.ReadError("reset"))

    def once() -> Iterator[bytes]:
        yield b"x"

    with client(failing) as lake, pytest.raises(Unreachable):
        lake.start_push(once(), "shop.orders")

    assert len(failing.requests) == 1


def test_a_file_object_is_sent_from_where_it_stood_and_counted() -> None:
    failing = Failing(httpx.ReadError("reset"), httpx.Response(202, json=COMPLETED_LOAD))
    stream = io.BytesIO(b"skipped" + b"x" * 600_000)
    stream.seek(7)
    seen: list[tuple[int, int | None]] = []

    with client(failing) as lake:
        lake.start_push(stream, "shop.orders", name="x.csv", on_upload=lambda sent, total: seen.append((sent, total)))

    assert failing.bodies == [b"x" * 600_000] * 2
    assert seen[-1] == (600_000, 600_000)
    assert failing.requests[0].headers["content-length"] == "600000"
    assert failing.requests[0].url.params["name"] == "x.csv"


def test_a_table_name_is_escaped_into_two_segments() -> None:
    failing = Failing(httpx.Response(202, json=COMPLETED_LOAD))

    with client(failing) as lake:
        lake.start_push(b"x", "deep.name space.tä ble")

    assert failing.requests[0].url.raw_path.startswith(b"/v1/loads/deep.name%20space/t%C3%A4%20ble?")


@pytest.mark.parametrize(("status", "kind"), [(401, NotAllowed), (404, NotFound), (422, Refused), (500, ServiceFailed)])
def test_a_problem_becomes_the_exception_of_its_kind(status: int, kind: type[Exception]) -> None:
    answer = problem(status, errors=[{"detail": "bad", "pointer": "/a"}])

    with client(Failing(answer)) as lake, pytest.raises(kind) as caught:
        lake.load(LOAD_ID)

    error = caught.value
    assert isinstance(error, lakegate.ProblemError)
    assert error.problem.detail == "What to do."
    assert error.problem.errors[0].pointer == "/a"
    assert error.problem.trace_id == "t1"


def test_a_part_of_an_overview_may_say_that_it_has_no_errors() -> None:
    missing = {"part": "lineage", "type": "/problems/forbidden", "status": 403, "detail": "No.", "errors": None}
    answer = httpx.Response(200, json={"table": "a.b", "dataset": None, "errors": [missing]})

    with client(Failing(answer)) as lake:
        overview = lake.overview("a.b")

    assert [(error.part, error.errors) for error in overview.errors] == [("lineage", [])]


def test_an_answer_of_a_proxy_becomes_a_problem_too() -> None:
    with client(Failing(httpx.Response(502, text="<html>Bad Gateway"))) as lake, pytest.raises(ServiceFailed) as caught:
        lake.load(LOAD_ID)

    assert "Bad Gateway" in caught.value.problem.detail


def test_oauth_errors_are_read_in_their_own_dialect() -> None:
    answer = httpx.Response(400, json={"error": "invalid_grant", "error_description": "Wrong password."})

    with client(Failing(answer)) as lake, pytest.raises(Refused) as caught:
        lake.password_token("ann", "wrong")

    assert (caught.value.problem.title, caught.value.problem.detail) == ("invalid_grant", "Wrong password.")


def test_a_token_request_carries_no_key() -> None:
    failing = Failing(httpx.Response(200, json={"access_token": "t"}))

    with client(failing) as lake:
        lake.client_token("id", "secret")

    assert "authorization" not in failing.requests[0].headers


def test_an_answer_that_is_no_json_is_a_broken_answer() -> None:
    with client(Failing(httpx.Response(200, text="<html>"))) as lake, pytest.raises(BrokenAnswer, match="<html>"):
        lake.load(LOAD_ID)


def test_a_load_that_failed_raises_its_problem() -> None:
    body = {"load_id": LOAD_ID, "state": "failed", "problem": {"title": "Empty", "detail": "No rows.", "status": 422}}

    with client(Failing(httpx.Response(200, json=body))) as lake, pytest.raises(LoadFailed, match="No rows") as caught:
        lake.wait(LOAD_ID)

    assert str(caught.value.load_id) == LOAD_ID


def test_pages_are_followed_by_their_next_link() -> None:
    pages = {
        None: {"items": [{"reason": "a"}], "next": f"/v1/loads/{LOAD_ID}/rejects?limit=1&cursor=b%2Bc"},
        "b+c": {"items": [{"reason": "b"}], "next": None},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=pages[request.url.params.get("cursor")])

    with client(answer) as lake:
        assert [item.reason for item in lake.all_rejects(LOAD_ID, page_size=1)] == ["a", "b"]


def rejected(count: int) -> str:
    return "".join(f'{{"row_id": {number // 2}, "reason": "a", "row": "{number // 2}"}}\n' for number in range(count))


def test_rejects_are_one_stream() -> None:
    failing = Failing(httpx.ConnectError("refused"), httpx.Response(200, text=rejected(5)))

    with client(failing) as lake:
        assert [item.row_id for item in lake.all_rejects(LOAD_ID)] == [0, 0, 1, 1, 2]

    assert [request.headers["accept"] for request in failing.requests] == ["application/x-ndjson"] * 2
    with client(Failing(httpx.Response(200, text="<html>"))) as lake, pytest.raises(BrokenAnswer, match="<html>"):
        list(lake.all_rejects(LOAD_ID))


def test_of_rejects_that_break_off_no_file_is_left(tmp_path: Path) -> None:
    """A part of them would be taken for all."""

    class Cut(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield rejected(50_001).encode()  # the last of them is no whole line
            raise httpx.RemoteProtocolError("peer closed connection")

    whole = False

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/rejects"):
            return httpx.Response(200, json=COMPLETED_LOAD | {"receipt": RECEIPT})
        if request.headers["accept"] != "application/x-ndjson":
            return httpx.Response(200, json={"items": []})
        return httpx.Response(200, text=rejected(5)) if whole else httpx.Response(200, stream=Cut())

    path = tmp_path / "mend.ndjson"
    with client(answer) as lake:
        with pytest.raises(Unreachable):
            write_rejected(lake, LOAD_ID, path)
        assert not path.exists()
        whole = True
        assert write_rejected(lake, LOAD_ID, path).rows == 3
    assert path.read_text() == "0\n1\n2\n"


def test_progress_is_read_until_the_load_has_settled() -> None:
    first = ': hello\n\nevent: progress\ndata: {"state": "reading", "rows": 5}\n\n'
    lines = first + 'event: completed\ndata: {"rows_in":\ndata: 7}\n\nevent: progress\ndata: {"state": "reading"}\n\n'

    with client(Failing(httpx.Response(200, text=lines))) as lake:
        assert [event.state for event in lake.events(LOAD_ID)] == ["reading", "completed"]


async def test_the_async_client_makes_the_same_requests() -> None:
    failing = Failing(httpx.ConnectError("refused"), httpx.Response(200, json=COMPLETED_LOAD))

    async with AsyncClient("http://gateway", "k", retries=QUICK, transport=httpx.MockTransport(failing)) as lake:
        load = await lake.load(LOAD_ID)

    assert load.settled
    assert failing.requests[1].headers["authorization"] == "Bearer k"


async def test_the_async_client_streams_an_upload() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        return httpx.Response(202, json=COMPLETED_LOAD | {"table": str(len(body))})

    async with AsyncClient("http://gateway", "k", retries=QUICK, transport=httpx.MockTransport(answer)) as lake:
        begun = await lake.start_push(io.BytesIO(b"x" * 700_000), "shop.orders")

    assert begun.table == "700000"


async def test_async_pages_are_followed_too() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        cursor = request.url.params.get("cursor")
        return httpx.Response(200, json={"items": [{"reason": cursor or "a"}], "next": None if cursor else "b"})

    async with AsyncClient("http://gateway", retries=QUICK, transport=httpx.MockTransport(answer)) as lake:
        assert [item.reason async for item in lake.all_rejects(LOAD_ID, page_size=1)] == ["a", "b"]


async def test_async_rejects_are_one_stream_too() -> None:
    failing = Failing(httpx.Response(200, text=rejected(3)))

    async with AsyncClient("http://gateway", retries=QUICK, transport=httpx.MockTransport(failing)) as lake:
        assert [item.row_id async for item in lake.all_rejects(LOAD_ID)] == [0, 0, 1]


def test_waiting_bears_an_outage() -> None:
    outage = [problem(503), httpx.ConnectError("refused"), httpx.ConnectError("refused"), httpx.ConnectError("refused")]
    receipt_less = httpx.Response(200, json=COMPLETED_LOAD | {"state": "failed"})
    failing = Failing(*outage, receipt_less)

    with client(failing) as lake, pytest.raises(LoadFailed):
        lake.wait(LOAD_ID)

    assert len(failing.requests) == 5


def test_waiting_ends_with_the_time_given() -> None:
    running = httpx.Response(200, json=COMPLETED_LOAD | {"state": "reading"})

    with client(Failing(running)) as lake, pytest.raises(StillRunning, match=LOAD_ID):
        lake.wait(LOAD_ID, timeout_seconds=0.1)


def test_a_progress_stream_that_breaks_off_does_not_end_the_push() -> None:
    begun = httpx.Response(202, json=COMPLETED_LOAD | {"state": "queued"})
    failed = httpx.Response(200, json=COMPLETED_LOAD | {"state": "failed", "problem": {"title": "Empty"}})

    with client(Failing(begun, problem(503), failed)) as lake, pytest.raises(LoadFailed, match="Empty"):
        lake.push(b"x", "shop.orders", on_event=lambda event: None)


@pytest.mark.parametrize("key", ["lgk_s3cret\nX: y", "lgk_s3crët", "lgk s3cret", "", "\n"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_no_header_can_carry_is_refused_at_once_and_not_shown(kind: type[Any], key: str) -> None:
    with pytest.raises(BadSetting) as caught:
        kind("http://gateway", key)

    assert "s3cr" not in str(caught.value)


def test_white_space_around_a_key_is_dropped() -> None:
    failing = Failing(httpx.Response(200, json=COMPLETED_LOAD))

    with Client("http://gateway/", " lgk_x\n", transport=httpx.MockTransport(failing)) as lake:
        lake.load(LOAD_ID)

    assert failing.requests[0].headers["authorization"] == "Bearer lgk_x"


def test_a_request_that_is_no_http_does_not_show_its_headers() -> None:
    failing = Failing(httpx.LocalProtocolError("Illegal header value b'Bearer lgk_s3cret'"))

    with client(failing) as lake, pytest.raises(Unreachable) as caught:
        lake.load(LOAD_ID)

    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_open_as_text_is_refused_in_words() -> None:
    with client(Failing()) as lake, pytest.raises(TypeError, match="rb"):
        lake.push(io.StringIO("a\n1\n"), "shop.orders")


def test_columns_are_named_as_a_line_of_csv() -> None:
    failing = Failing(httpx.Response(200, content=b""))
    with client(failing) as lake:
        list(lake.rows("shop.orders", columns=["a,b", 'c "d"', "e f"]))
    assert failing.requests[0].url.params["columns"] == '"a,b","c ""d""",e f'


@pytest.mark.parametrize("url", ["http://[::1", "foo", "localhost:8080", "ftp://x", "http://", ""])
def test_an_address_that_is_no_url_is_said_so(url: str) -> None:
    with pytest.raises(BadSetting, match="no URL"):
        Client(url, "lgk_x")
