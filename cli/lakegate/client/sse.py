"""Server-sent events (WHATWG HTML, section 9.2) from lines, without a connection."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from lakegate.client.errors import BrokenAnswer
from lakegate.client.models import LoadEvent


@dataclass
class EventLines:
    """Feed it lines without their ends; it gives an event at each blank line."""

    last_id: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> str | None:
        """The data of the event that this line ends, None while there is none."""
        if line == "":
            data, self._data = "\n".join(self._data), []
            return data or None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value
        return None


def load_event(data: str) -> LoadEvent:
    """A load's event. Raises BrokenAnswer when it is no JSON object with a `state`."""
    try:
        body = json.loads(data)
        return LoadEvent(state=body["state"], data=body)
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenAnswer(f"A progress event is no load event: {data[:200]!r}") from error
