"""Sends what comes into a stream on to a program on this machine, body and headers as they came.

It reads the stream as a tail does, so no group notices. Each delivery is sent once, in the order of
the stream, and nothing is tried again: whoever develops that program sees each answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from hookmill.admin.redactions import Showable, shown_by
from hookmill.admin.tailing import Cursor, Wanted
from hookmill.config.settings import Settings
from hookmill.debug.targets import scheme_for
from hookmill.errors import HookmillError, SettingsError, UsageError, WireVersionError
from hookmill.message import Message
from hookmill.signatures import Signed
from hookmill.stream.client import Client
from hookmill.stream.tail import Arrived, StreamTail

TIMEOUT = 30.0
"""Seconds that the program may take to answer a delivery."""

_LEFT_OUT = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are about a connection. Receivers store none of them."""

_ADDED_BY_THE_CLIENT = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class ForwardRefusedError(HookmillError):
    """Deliveries may not be sent on like this. The text says why."""

    code = "forward_refused"


class ForwardURLError(ForwardRefusedError, UsageError):
    """What was given is no URL to which deliveries can be sent."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a delivery: the status of the answer, or None and why there is none."""

    at: str
    entry: str
    source: str
    type: str
    message_id: str
    status: int | None = None
    ms: int = 0
    error: str = ""
    cursor: str = ""


class _Request(NamedTuple):
    url: URL
    headers: CIMultiDict[str]
    body: bytes


class Forwarder:
    """Sends messages of a stream to a URL. `start` it first, and `close` it at the end.

    Without a path of its own, the URL gets the path of each message's source. With `signs`, each
    delivery is signed anew, as `hookmill send` does it. Raises `ForwardRefusedError` for a URL on
    another machine, unless `anywhere`.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        url: str,
        wanted: Wanted,
        *,
        signs: bool = False,
        anywhere: bool = False,
    ) -> None:
        _check_url(url, anywhere=anywhere)
        self._client = client
        self._settings = settings
        self._url = url
        self._wanted = wanted
        self._signs = signs
        self._stream = StreamTail(client)
        self._http: aiohttp.ClientSession | None = None
        self.cursor = Cursor((), "0-0")

    async def start(self, since_ms: int | None = None, cursor: str | None = None) -> None:
        """Begin at a time, behind a cursor, or now. Raises `ForwardRefusedError` where a source
        that is named redacts fields.
        """
        showable = await shown_by(self._client, self._settings)
        if self._wanted.source is not None and showable.of(self._wanted.source):
            raise ForwardRefusedError(_redacts(self._wanted.source))
        partitions = len(self._client.partitions)
        if cursor is not None:
            self.cursor = Cursor.of(cursor, partitions)
        elif since_ms is not None:
            self.cursor = Cursor.since(since_ms, partitions)
        else:
            self.cursor = Cursor(tuple(await self._stream.newest()), "0-0")
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            auto_decompress=False,
            skip_auto_headers=_ADDED_BY_THE_CLIENT,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connection to the program."""
        if self._http is not None:
            await self._http.close()

    async def look(self) -> AsyncGenerator[Sent]:
        """Send on what there is behind the cursor, and move it with each delivery. It ends when all
        was sent that was there. Raises `StreamUnavailableError`.
        """
        is_end = False
        while not is_end:
            pages = await self._stream.read(self.cursor.entries, whole=True)
            # Looked up each time: a source may have been told to redact fields.
            showable = await shown_by(self._client, self._settings)
            is_end = all(page.is_end for page in pages)
            entries = (one for page in pages for one in page.entries)
            for one in sorted(entries, key=lambda each: each.order):
                self.cursor = self.cursor.behind(one)
                if self._wanted.matches(one.fields):
                    yield await self._forward(one, showable)

    async def _forward(self, one: Arrived, showable: Showable) -> Sent:
        entry = f"{one.id}@{one.partition}" if one.partition else one.id
        try:
            message = Message.from_fields(one.fields)
        except WireVersionError as error:
            return Sent(
                at="", entry=entry, source="", type="", message_id="", error=str(error),
                cursor=str(self.cursor),
            )  # fmt: skip
        sent = Sent(
            at=message.received_at.isoformat(timespec="milliseconds"),
            entry=entry,
            source=message.source,
            type=message.type,
            message_id=message.id,
            cursor=str(self.cursor),
        )
        if showable.of(message.source):
            return msgspec.structs.replace(sent, error=_redacts(message.source))
        began = time.monotonic()
        try:
            found: dict[str, Any] = {"status": await self._post(self._request_of(message))}
        except SettingsError as error:
            found = {"error": f"it cannot be signed: {'; '.join(error.faults)}"}
        except TimeoutError:
            found = {"error": f"no answer within {TIMEOUT:g} s"}
        except aiohttp.ClientError as error:
            found = {"error": str(error) or type(error).__name__}
        except ValueError as error:  # a header or URL that HTTP cannot express
            found = {"error": f"it cannot be sent: {error}"}
        ms = round((time.monotonic() - began) * 1000)
        return msgspec.structs.replace(sent, ms=ms, **found)

    def _request_of(self, message: Message) -> _Request:
        """Return the request that brings a message. Raises `SettingsError` if it cannot be
        signed.
        """
        url = self._url
        if urlsplit(url).path in {"", "/"}:
            url = url.rstrip("/") + self._settings.path_of(message.source)
        base = URL(url, encoded=True)
        headers = CIMultiDict(
            (name, value)
            for name, value in message.headers.items()
            if name.lower() not in _LEFT_OUT
        )
        if not self._signs:
            return _Request(base, headers, message.body)
        scheme = scheme_for(message.source, url, self._settings)
        delivery = Signed(headers, message.body, base.raw_path_qs, url=url)
        signed = scheme.sign(delivery, time.time())
        # Only a sender that signs its URL appends to it.
        target = URL(url + signed.target.removeprefix(delivery.target), encoded=True)
        return _Request(target, CIMultiDict(signed.headers), signed.body)

    async def _post(self, request: _Request) -> int:
        assert self._http is not None  # noqa: S101 - it was started
        async with self._http.post(
            request.url, data=request.body, headers=request.headers, allow_redirects=False
        ) as response:
            await response.content.read(1000)
            return response.status


def _redacts(source: str) -> str:
    return f"source {source} redacts fields, so its deliveries are not sent on"


def _check_url(url: str, *, anywhere: bool) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url:
        raise ForwardURLError(
            f"{url}: give an http or https URL without ? and #, such as http://localhost:3000"
        )
    if not anywhere and not _is_here(parts.hostname or ""):
        raise ForwardRefusedError(
            f"{url} is on another machine, and deliveries hold what your senders' customers wrote: "
            "give a URL on this machine, or --anywhere if it really shall get them"
        )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
