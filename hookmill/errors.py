"""Every error a user can meet, under one base.

An error's docstring says what it means; its `code` is the short form that logs, dead letters
and metrics carry. Errors of other libraries never pass through our doors.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar


class HookmillError(Exception):
    """The base of all of Hookmill's errors. Never raised itself."""

    code: ClassVar[str] = "error"


class SettingsError(HookmillError):
    """The settings cannot be used. `faults` names every fault at once, one line each."""

    code = "settings"

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


class HandlersError(HookmillError):
    """A handler, or the place it was to be loaded from, was declared in a way that cannot work."""

    code = "handlers"


class NotInstalledError(HookmillError):
    """A part of Hookmill is not there, as when its code is run without having been installed."""

    code = "not_installed"


class DecodeError(HookmillError):
    """A body is not what the event class says: the decoder's message, with the JSON path."""

    code = "undecodable"


class WireVersionError(HookmillError):
    """A stored message has a wire version that this release does not know: a newer one wrote it."""

    code = "unknown_wire_version"


class StreamUnavailableError(HookmillError):
    """Redis did not answer in time, or answered that it cannot do it now. Nothing is known to be
    stored or taken; asking again is safe.
    """

    code = "stream_unavailable"


class NotDurableError(StreamUnavailableError):
    """Redis took the message, but not in the way that `HOOKMILL_DURABILITY` asks for. It may be
    there all the same; asking again is safe.
    """

    code = "not_durable"


class BacklogFullError(StreamUnavailableError):
    """So many messages wait to be handled that Redis must not be given more. Nothing was stored."""

    code = "backlog_full"


class PartitionsError(StreamUnavailableError):
    """The stream was made with another number of partitions than `HOOKMILL_PARTITIONS` says.
    Nothing was stored or taken.
    """

    code = "partitions"


class TokenReusedError(HookmillError):
    """A signed token came before, with another message ID: a copy of a delivery, not a repeat."""

    code = "token_reused"


class CertificateUnavailableError(HookmillError):
    """The certificate that a sender signs with could not be had now. Nothing is known of the
    delivery and nothing was stored; sending it again is safe.
    """

    code = "certificate_unavailable"


class NotConfirmedError(HookmillError):
    """A subscription could not be confirmed with its sender. Being asked again is safe."""

    code = "not_confirmed"


class GroupLostError(HookmillError):
    """The stream or its consumer group is gone from Redis; it must be made anew before taking."""

    code = "group_lost"


class SendError(HookmillError):
    """Something could not be sent, or it is not known whether it was.

    `may_be_published` False: surely nothing was published. True: that is not known; whoever sends
    again with the same `deduplication_id` does not publish twice within QStash's ten minutes.
    `status` and `body` (its beginning) are the last answer's; None and "" where there was none.
    `resets_at` is when a limit that was reached ends, where the answer said so.
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
