"""What is no row, how rows are split, and how topics are called."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from pyiceberg.schema import Schema
from pyiceberg.types import BinaryType, LongType, NestedField, StringType

from lakegate_chassis.eventlog.kafka.topics import new_topic
from lakegate_chassis.problems import Problem, TooLarge
from lakegate_chassis.settings import KafkaSettings
from lakegate_contracts.names import TableName
from lakegate_ingest.errors import BadRows, CorruptEncoding, TooManyRows
from lakegate_ingest.streams.door import LIMITS
from lakegate_ingest.streams.reading import Target, read_rows
from lakegate_ingest.streams.rows import decoded, split
from lakegate_ingest.streams.shape import Shape
from lakegate_ingest.streams.topics import REJECTS, committed_offset, offset_property, topic_of

SCHEMA = Schema(NestedField(1, "large", LongType(), required=False))


@pytest.mark.parametrize(
    ("row", "column", "says"),
    [
        (b"{}", None, "empty"),
        (b"[]", None, "an array"),
        (b'"x"', None, "a string"),
        (b"{", None, "not valid JSON"),
        (b'{"id": 1, "name": "\xff"}', None, "not valid UTF-8: invalid start byte at byte 19"),
        (b'{"id": 1, "n\xc3": "x"}', None, "not valid UTF-8"),
        (b'{"id": 1, "new": "\xed\xa0\x80"}', None, "not valid UTF-8"),
        (b'{"id": 1, "b": "x"}', "b", "binary"),
        (b'{"c": 1}', None, "none of its keys"),
        (b'{"b": 1}', "b", "binary"),
        (b'{"ID": 1, "new": 1}', "new", "adds none"),
        (b'{"name": 1}', "id", "required"),
        (b'{"id": 1, "%s": 1}' % (b"n" * 256), None, "256 characters"),
    ],
)
def test_what_is_no_row_at_all_is_told_without_the_engine(row: bytes, column: str | None, says: str) -> None:
    fields = (("id", LongType(), True), ("b", BinaryType(), False), ("name", StringType(), False))
    shape = Shape(Schema(*(NestedField(i, name, kind, required=r) for i, (name, kind, r) in enumerate(fields, 1))))
    assert shape.uncertain([row]) == [0]
    found = shape.screen(row, "reject")
    assert found is not None
    assert (found[0], says in found[1]) == (column, True), found


def test_a_row_that_the_engine_cannot_read_with_others_is_found(tmp_path: Path) -> None:
    rows = [b'{"large": 1}', b'\xff{"large": 2}', b'{"large": 3}', b'{"unknown": 4}', b'{"large": "x"}']
    read = read_rows(rows, Target(SCHEMA, 99, "reject"), tmp_path, LIMITS, name="rows")
    assert read.rows_written == 2
    assert [reject.index for reject in read.rejects] == [1, 3, 4]


def test_of_many_rows_that_the_engine_cannot_read_no_good_one_is_refused_with_them(tmp_path: Path) -> None:
    rows = [(b'\xff{"large": %d}' if number % 2 else b'{"large": %d}') % number for number in range(100)]
    read = read_rows(rows, Target(SCHEMA, 99, "reject"), tmp_path, LIMITS, name="rows")
    assert read.unread is not None
    assert [reject.index for reject in read.rejects] == [number for number in range(read.unread) if number % 2]
    assert read.rows_written + len(read.rejects) == read.unread


def test_rows_are_split_as_they_were_sent() -> None:
    limits = {"most_rows": 3, "most_row_bytes": 50}
    number = b'{"n": 1.10000000000000000000000001}'
    assert split(b"[" + number + b',\n{"a":\n2}]', **limits) == [number, b'{"a": 2}']
    assert split(number + b"\r\n\n" + number, **limits) == [number + b"\r", number]
    with pytest.raises(TooManyRows):
        split(b"{}\n" * 4, **limits)
    with pytest.raises(BadRows):
        split(b"[{]", **limits)


@pytest.mark.parametrize(("body", "encoding"), [(b"\x1f\x8b broken", "gzip"), (b"broken", "zstd"), (b"x", "br")])
def test_a_body_that_cannot_be_decoded_is_a_problem(body: bytes, encoding: str) -> None:
    with pytest.raises(Problem):
        decoded(body, [encoding], most_bytes=100)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_every_member_of_a_body_counts_and_all_of_them_are_whole(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    first, second = b'{"id": 1}\n' * 2000, bytes(random.Random(1).randbytes(40_000))
    assert decoded(pack(first) + pack(second), [encoding], most_bytes=60_000) == first + second
    damaged = [
        (pack(first) + pack(second)[:-9], "cut off"),
        (pack(second)[:20_000], "cut off"),
        (pack(first) + b"left over", "is damaged|can't be read"),
        (pack(b"") * 10_001, "more than 10,000"),
    ]
    for body, says in damaged:
        with pytest.raises(CorruptEncoding, match=says):
            decoded(body, [encoding], most_bytes=60_000)
    with pytest.raises(TooLarge):
        decoded(pack(first) + pack(second), [encoding], most_bytes=50_000)


def test_topics_of_different_tables_differ_and_are_legal() -> None:
    names = [
        ("a", "b.c", "d"),
        ("a", "b", "c.d"),
        ("a.b", "c", "d"),
        ("a", "b-c", "d"),
        ("a", "b c", "d"),
        ("ä", "b", "ü"),
        ("a", "b", "c_d"),
        ("a", "b_c", "d"),
        ("a_b", "c", "d"),
    ]
    topics = {topic_of(tenant, TableName(namespace, name)) for tenant, namespace, name in names}
    assert len({topic.replace(".", "_") for topic in topics}) == len(names)  # so Kafka compares them
    assert topic_of("default", TableName("shop", "orders2")) == "lakegate.stream.default.shop.orders2"
    assert all(set(topic) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for topic in topics)
    with pytest.raises(Problem):
        topic_of("t", TableName("n" * 120, "x" * 128))


def test_no_table_is_the_rejects_of_another() -> None:
    rejects = topic_of("t", TableName("ns", "x")) + REJECTS
    assert rejects not in {topic_of("t", TableName("ns.x", "dlq")), topic_of("t", TableName("ns", "x-dlq"))}
    own = KafkaSettings(bootstrap="nowhere:9092", partitions=3)
    assert new_topic(rejects, own).num_partitions == 1
    assert new_topic(topic_of("t", TableName("ns.x", "dlq")), own).num_partitions == 3


def test_only_numbers_are_offsets() -> None:
    assert committed_offset({offset_property("t", 1): "17"}, "t", 1) == 17
    assert committed_offset({offset_property("t", 1): "x"}, "t", 1) is None
    assert committed_offset({}, "t", 1) is None
