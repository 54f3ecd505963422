"""Every error that a user can meet, under one base class.

The docstring of an error says what it means. Its `code` is the short form in logs, dead letters
and metrics. An error of another library is always turned into one of these.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

DOCS_URL = "https://github.com/hookmill/hookmill/blob/main/docs"
"""Where the documentation is read, because an installed package does not contain it."""


def see(page: str) -> str:
    """Return `see <URL>` for a page of the documentation, such as `reference/sources.md`."""
    return f"see {DOCS_URL}/{page}"


class HookmillError(Exception):
    """The base class of Hookmill's errors. It is never raised itself."""

    code: ClassVar[str] = "error"


class SettingsError(HookmillError):
    """The settings cannot be used. `faults` holds every fault that was found, one line each."""

    code = "settings"

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


class HandlersError(HookmillError):
    """A handler or an event is declared in a way that cannot work, or cannot be loaded."""

    code = "handlers"


class UsageError(HookmillError):
    """What a command was given cannot be meant: a text that is no time, no cursor, no URL."""

    code = "usage"


class NotInstalledError(HookmillError):
    """A part of Hookmill is not installed: an extra, or the package itself."""

    code = "not_installed"


class DecodeError(HookmillError):
    """A body does not fit the event class. The text is the decoder's, with the JSON path."""

    code = "undecodable"


class WireVersionError(HookmillError):
    """A stored message has a wire version that this release does not know.

    A newer release wrote it.
    """

    code = "unknown_wire_version"


class StreamUnavailableError(HookmillError):
    """Redis did not answer in time, or answered that it cannot do this now.

    It is not known whether anything was stored or taken. Trying again is safe.
    """

    code = "stream_unavailable"


class NotDurableError(StreamUnavailableError):
    """Redis stored the message, but did not confirm the level that `HOOKMILL_DURABILITY` asks for.

    The message may be there. Trying again is safe.
    """

    code = "not_durable"


class BacklogFullError(StreamUnavailableError):
    """The backlog is full: too many messages are unfinished. Nothing was stored."""

    code = "backlog_full"


class PartitionsError(StreamUnavailableError):
    """The stream has another number of partitions than `HOOKMILL_PARTITIONS` says.

    Nothing was stored or taken.
    """

    code = "partitions"


class TokenReusedError(HookmillError):
    """A signed token was used before, with another message ID: somebody copied a delivery."""

    code = "token_reused"


class CertificateUnavailableError(HookmillError):
    """A sender's certificate could not be fetched, so the delivery was not judged.

    Nothing was stored. Sending it again is safe.
    """

    code = "certificate_unavailable"


class NotConfirmedError(HookmillError):
    """A subscription could not be confirmed with its sender. The sender can ask again."""

    code = "not_confirmed"


class GroupLostError(HookmillError):
    """The stream or its consumer group is gone from Redis. It must be made again before a take."""

    code = "group_lost"


class GroupRefusedError(HookmillError):
    """The consumer group cannot be used as asked: there is none of this name, it was dropped, it is
    only half made, or its workers run. The text says what to do.
    """

    code = "group_refused"


class SendError(HookmillError):
    """A message was not sent, or it is not known whether it was.

    `may_be_published` is False if nothing was published, and True if that is not known. Then send
    again with the same `deduplication_id`: QStash publishes it only once within ten minutes.
    `status` and `body` (its beginning) are those of the last answer; None and "" without one.
    `resets_at` is the time when a reached limit ends; None if the answer did not say it.
    """

    code = "send"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: str = "",
        deduplication_id: str | None = None,
        may_be_published: bool = True,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.deduplication_id = deduplication_id
        self.may_be_published = may_be_published
        self.resets_at = resets_at


class AddressRefusedError(SendError):
    """A sender with `only_public=True` did not request a URL, because the URL leads to no public
    address, or names another service's port or a username.
    """

    code = "address_refused"
