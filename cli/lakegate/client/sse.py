"""Server-sent events (WHATWG HTML, section 9.2) from lines, without a connection."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from pydantic import ValidationError

from lakegate.client.errors import BrokenAnswer
from lakegate.client.models import LoadEvent, StreamedRow


@dataclass
class EventLines:
    """Takes lines without their line feeds, and gives an event at each blank line."""

    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> tuple[str, str] | None:
        """Name and data of the event that this line completes, None if it completes none."""
        if line == "":
            name, data = self._name, "\n".join(self._data)
            self._name, self._data = "", []
            return (name or "message", data) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        return None


def load_event(name: str, data: str) -> LoadEvent:
    """A load's event: `progress` carries its state, the last one (`completed`, `failed`) is named by it.

    Raises BrokenAnswer.
    """
    try:
        body = json.loads(data)
        state = body["state"] if name == "progress" else name
        return LoadEvent(state=state, data=body)
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenAnswer(f"A progress event is no load event: {name} {data[:200]!r}") from error


def streamed_row(data: str) -> StreamedRow:
    """A row of a tail. Raises BrokenAnswer."""
    try:
        return StreamedRow.model_validate_json(data)
    except ValidationError as error:
        raise BrokenAnswer(f"An event of a stream is no row: {data[:200]!r}") from error
