"""Datasets, their schemas and their versions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from lakegate.client import Dataset, DatasetVersion
from lakegate.output import Column, Output
from lakegate.render import words
from lakegate.text import styled


def datasets(output: Output, items: Sequence[Dataset]) -> RenderableType:
    columns = [
        Column("name", style="bold"),
        Column("kind"),
        Column("rows", right=True),
        Column("size", right=True),
        Column("version", right=True),
        Column("owner"),
        Column("tags"),
        Column("updated"),
    ]
    return output.table(
        columns,
        (
            (
                words.value(item.name, 80),
                item.kind,
                words.count(item.rows),
                words.size(item.size_bytes),
                words.count(item.version),
                words.value(item.owner) if item.owner else "-",
                words.value(", ".join(item.tags)) if item.tags else "-",
                words.moment(item.updated_at),
            )
            for item in items
        ),
    )


def dataset(output: Output, item: Dataset) -> RenderableType:
    """The catalog entry as a small page."""
    rows: list[tuple[str, RenderableType]] = [
        ("name", styled((item.name, "bold"))),
        ("namespace", item.namespace),
        ("id", str(item.id)),
        ("kind", item.kind),
        ("rows", words.count(item.rows)),
        ("size", words.size(item.size_bytes)),
        ("version", words.count(item.version)),
        ("snapshot", str(item.snapshot_id) if item.snapshot_id is not None else "none"),
        ("owner", words.value(item.owner) if item.owner else "-"),
        ("tags", ", ".join(item.tags) or "-"),
        ("description", words.value(item.description, 400) if item.description else "-"),
        ("location", words.value(item.location, 400) if item.location else "-"),
        ("updated", words.moment(item.updated_at)),
    ]
    return output.panel("Dataset", output.pairs(rows))


def schema(output: Output, item: Dataset) -> RenderableType:
    fields = item.schema_.fields if item.schema_ else []
    columns = [Column("id", right=True, style="dim"), Column("column", style="cyan"), Column("type"), Column("null")]
    return output.table(
        columns,
        (
            (
                "-" if field.field_id is None else str(field.field_id),
                words.value(field.name),
                field.type,
                "yes" if field.nullable else "no",
            )
            for field in fields
        ),
        title="Schema",
    )


def versions(output: Output, items: Sequence[DatasetVersion]) -> RenderableType:
    columns = [
        Column("version", right=True),
        Column("change"),
        Column("rows added", right=True),
        Column("snapshot", style="dim"),
        Column("at"),
    ]
    return output.table(
        columns,
        (
            (
                words.count(item.version),
                words.value(item.kind) if item.kind else "-",
                words.count(item.snapshot.count("added-records") if item.snapshot else None),
                "-" if item.snapshot_id is None else str(item.snapshot_id),
                words.moment(item.changed_at),
            )
            for item in items
        ),
        title="Versions",
    )


def page(output: Output, item: Dataset, history: Sequence[DatasetVersion]) -> RenderableType:
    """Entry, schema and versions."""
    return Group(dataset(output, item), output.beside(schema(output, item), versions(output, history)))
