"""The options of a publish request: `Upstash-*` headers, or query parameters of the same name.

Pure, no I/O. An option that cannot be read is an `ApiError` that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hookmill.emulator import retry_delay
from hookmill.emulator.models import ApiError, Headers
from hookmill.emulator.parsing import (
    HIGHEST,
    flag_of,
    header_name,
    printable,
    seconds_of,
    shown,
    whole_number,
)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

CONNECTION_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to a connection and not to a message. They are never forwarded."""

_DELIVERY_HEADERS = frozenset(
    {
        "upstash-caller-ip",
        "upstash-message-id",
        "upstash-region",
        "upstash-retried",
        "upstash-schedule-id",
        "upstash-signature",
        "upstash-topic-name",
    }
)
"""Headers that the emulator adds to a delivery. A publisher cannot set them."""

_PREFIX = "upstash-"


class Options:
    """The options below a prefix, by their lower-case names."""

    def __init__(self, prefix: str, pairs: Iterable[tuple[str, str]]) -> None:
        self._prefix = prefix
        self._pairs = tuple(pairs)
        # Reversed, so that the first value counts: a header before a query parameter.
        self._values = {name.lower(): value for name, value in reversed(self._pairs)}

    def below(self, name: str) -> Options:
        """Return the options of a callback, such as those below `Upstash-Callback-`."""
        return Options(f"{self._prefix}{name.title()}-", self._under(f"{name}-"))

    def forwarded(self) -> Headers:
        """Return the headers to forward, without their prefix."""
        return tuple(
            (header_name(name), value)
            for name, value in self._under("forward-")
            if name.lower() not in CONNECTION_HEADERS | _DELIVERY_HEADERS
        )

    def _under(self, prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in self._pairs:
            if name.lower().startswith(prefix):
                yield name[len(prefix) :], value

    def text(self, name: str) -> str:
        """Return the text of an option; "" if it is not given."""
        return self._values.get(name, "")

    def items(self, name: str) -> list[str]:
        """Split a list at its commas."""
        return [text for part in self.text(name).split(",") if (text := part.strip())]

    def number(self, name: str, default: int, highest: int = HIGHEST) -> int:
        """Read a whole number."""
        text = self.text(name)
        return whole_number(text, self._title(name), highest=highest) if text else default

    def seconds(self, name: str) -> float:
        """Read a duration such as `1d10h30m`, in seconds; 0 if it is not given."""
        text = self.text(name)
        return seconds_of(text, self._title(name)) if text else 0.0

    def flag(self, name: str) -> bool:
        """Read a boolean; False if it is not given."""
        return bool(self.text(name)) and flag_of(self.text(name), self._title(name))

    def method(self) -> str:
        """Read the HTTP method; POST if it is not given."""
        text = self.text("method").upper() or "POST"
        if text not in METHODS:
            where = self._title("method")
            raise ApiError(400, f"{where}: {shown(text)} is none of {', '.join(METHODS)}")
        return text

    def retry_delay(self) -> str:
        """Return the expression of the retry delay; "" if it is not given."""
        text = self.text("retry-delay")
        if text:
            retry_delay.check(text)
        return text

    def _title(self, name: str) -> str:
        return self._prefix + name.title()


def options_of(*groups: Headers) -> Options:
    """Collect the options of headers and query parameters. Unknown names are ignored."""
    return Options(
        "Upstash-",
        (
            (name[len(_PREFIX) :], printable(value, name).strip())
            for group in groups
            for name, value in group
            if name.lower().startswith(_PREFIX)
        ),
    )
