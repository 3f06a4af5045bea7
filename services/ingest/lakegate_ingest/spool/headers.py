"""Header values with parameters: Content-Type, Content-Disposition (RFC 9110, 5.6.6; RFC 2231 for `name*=`)."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value


class BadHeader(ValueError):
    """The message says which header, as a sentence for its sender."""


@dataclass(frozen=True)
class HeaderValue:
    """`value` is in lower case, without its parameters; these are in the order in which they were sent."""

    value: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        return next((value for known, value in self.parameters if known == name), None)


def parse_header(name: str, text: str) -> HeaderValue:
    """Raises BadHeader. `name` is only for its message."""
    header = Message()
    header["content-type"] = text
    try:
        # What Python's parser can't do it does not say in one way: a `*0=` beside a `*=`, an unusable charset.
        found = header.get_params(failobj=[], unquote=True)
        pairs = [
            (key.lower(), value if isinstance(value, str) else collapse_rfc2231_value(value)) for key, value in found
        ]
        "".join(value for _, value in pairs).encode()  # half a surrogate pair could be written nowhere
    except (TypeError, ValueError) as error:
        raise BadHeader(f"The parameters of {name} can't be read: '{text[:100]}'. See RFC 2231.") from error
    if not pairs:
        return HeaderValue("", ())
    return HeaderValue(pairs[0][0].strip(), tuple(pairs[1:]))
