"""HTTP for the sender: a request again and again until it is known what became of it.

The only part of the sender that does I/O. What an answer means is `persistence`'s to say; here it
is asked for, waited for, and told as a `SendError` that holds neither a token nor a secret.
"""

from __future__ import annotations

import asyncio
import io
import math
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple, TypeVar

import aiohttp
from yarl import URL

from hookmill.errors import SendError
from hookmill.sending.qstash_api import Request
from hookmill.sending.retry_policy import (
    UNUSABLE,
    WINDOW,
    Answer,
    Broken,
    Judgement,
    RetryPolicy,
    judge,
)
from hookmill.signatures import Secret

AT_A_TIME = 100
"""Connections to one host."""

MOST = 32 * 1024 * 1024
"""Bytes of an answer that are read."""

BEGINNING = 1000
"""Characters of an answer that an error shows."""

_T = TypeVar("_T")


class Errand(NamedTuple):
    """What is known of a request whatever becomes of it.

    `what` is what it does, for people. `base` is scheme and host; `needs_body`: what it is answered
    counts, not the status alone; `secrets` must not be shown. `window`: seconds after which another
    attempt could count a second time.
    """

    what: str
    base: str = ""
    deduplication_id: str | None = None
    needs_body: bool = True
    secrets: tuple[Secret, ...] = ()
    window: float = math.inf


class Poster:
    """Makes requests over connections that it keeps. It is opened by its first request."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the session's
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections; what is under way breaks off."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(
        self,
        errand: Errand,
        make: Callable[[], Request],
        read: Callable[[Answer], _T | None],
        retry_policy: RetryPolicy,
    ) -> _T:
        """Make the request until `read` finds what it needs in an answer, and return that.

        `make` gives the request of an attempt. Raises `SendError`.
        """
        begun, may_have_counted = time.monotonic(), False

        def is_too_late(after: float) -> bool:
            # However late in it the next attempt is read, the window must not be over.
            return time.monotonic() - begun + after + retry_policy.total > errand.window

        for attempt in count(1):
            request = make()
            outcome = self._unusable() or await self._attempt(errand, request, retry_policy)
            judged = judge(outcome, retry_policy.patience, time.time())
            if judged.follows == "accept" and isinstance(outcome, Answer):
                found = read(outcome._replace(may_be_repeat=may_have_counted))
                if found is not None:
                    return found
                judged = UNUSABLE
            may_have_counted |= judged.may_have_counted
            pause = retry_policy.pause(attempt, judged.wait)
            is_last = judged.follows == "give up" or attempt >= retry_policy.attempts
            if is_last or is_too_late(pause):
                break
            await asyncio.sleep(pause)
            if is_too_late(0):  # this process stood still meanwhile
                break
        raise _error(errand, outcome, judged, attempt, may_have_counted=may_have_counted)

    async def _attempt(
        self, errand: Errand, request: Request, retry_policy: RetryPolicy
    ) -> Answer | Broken:
        """Make the request once. Returns what happened: an error of aiohttp's holds the token."""
        try:
            async with self._open().request(
                request.method,
                _url(errand.base, request.target),
                data=_payload(request.body),
                headers=request.headers,
                # A redirect would carry the token to another place.
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=retry_policy.total, connect=retry_policy.connect
                ),
            ) as response:
                body = await _read(response, whole=errand.needs_body)
                return Answer(response.status, response.headers, body)
        except aiohttp.ConnectionTimeoutError:
            waited = f"no connection within {retry_policy.connect:g} s"
            return Broken(waited, may_be_read=False)
        except TimeoutError:
            return Broken(f"no answer within {retry_policy.total:g} s")
        except aiohttp.ClientConnectorCertificateError as error:
            return Broken(f"the certificate is refused: {error}", may_be_read=False, is_final=True)
        except aiohttp.ClientConnectorError as error:
            return Broken(str(error), may_be_read=False)
        except aiohttp.InvalidURL as error:
            return Broken(f"it cannot be asked for: {error}", may_be_read=False, is_final=True)
        except ValueError as error:
            return Broken(f"HTTP has no form for it: {error}", is_final=True)
        except (_BrokenOffError, aiohttp.ClientError, OSError) as error:
            return Broken(f"the connection broke off ({_said(error)})")

    def _unusable(self) -> Broken | None:
        """Return why nothing can go out, as what became of an attempt that was not made."""
        reason = "the sender is closed: make another" if self._is_closed else ""
        if self._loop not in {None, asyncio.get_running_loop()}:
            reason = "the sender was opened in another event loop: make one in each"
        return Broken(reason, may_be_read=False, is_final=True) if reason else None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._loop = asyncio.get_running_loop()
            self._session = aiohttp.ClientSession(
                # What waits for one slow host must not keep the others waiting.
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=AT_A_TIME),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "hookmill"},
                middlewares=(_once,),
            )
        return self._session


def _said(error: Exception) -> str:
    """Return what broke a connection off, without the URL and what the server wrote."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer's body is not whole, or not what it says it is"
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return said.partition(":")[0].strip() or type(error).__name__


class _BrokenOffError(Exception):
    """A connection broke off; its text names the error that said so."""


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Have a request go out once.

    Where a kept connection breaks off, aiohttp asks again by itself for what HTTP calls idempotent,
    and nobody would learn that the first request may have counted.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _BrokenOffError(type(error).__name__) from None


def _url(base: str, target: str) -> URL:
    scheme, _, authority = base.partition("://")
    # Built, not read: whatever stands in the target is sent as it was written.
    return URL.build(scheme=scheme, authority=authority, path=target, encoded=True)


def _payload(body: bytes) -> io.BytesIO | None:
    # Written in pieces, so that a large body does not hold up the loop.
    return io.BytesIO(body) if body else None


async def _read(response: aiohttp.ClientResponse, *, whole: bool) -> bytes:
    """Return the body; where the status says it all, what can be had of its beginning."""
    if not (whole and 200 <= response.status < 300):
        try:
            return await response.content.read(BEGINNING)
        except (aiohttp.ClientError, TimeoutError):
            return b""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST:
            return b""  # no answer of the API is that long
    return bytes(body)


def _error(
    errand: Errand, outcome: Answer | Broken, judged: Judgement, attempts: int, *,
    may_have_counted: bool,
) -> SendError:  # fmt: skip
    """Say what is known: what was tried, how it ended, whether it may have counted."""
    status, body, resets = None, "", None
    if isinstance(outcome, Answer):
        status = outcome.status
        body = outcome.body[:BEGINNING].decode("utf-8", "replace").strip()
        # First of all: a secret that is cut off afterwards would not be found.
        body = _without_beginning(hidden(body, errand.secrets), errand.secrets)[:BEGINNING]
        if judged.wait is not None:
            resets = datetime.fromtimestamp(time.time() + judged.wait, UTC)
    known = "it may have been taken all the same" if may_have_counted else "nothing was taken"
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    parts = [f"{errand.what}: {judged.reason}", f"after {tries}; {known}"]
    if resets is not None:
        parts.append(f"it asks to come again at {resets:%Y-%m-%d %H:%M:%S} UTC")
    if body:
        parts.append(f"it said: {body[:200]}")
    return SendError(
        hidden(", ".join(parts[:2]) + "".join(f"; {part}" for part in parts[2:]), errand.secrets),
        status=status,
        body=body,
        deduplication_id=errand.deduplication_id,
        may_be_published=may_have_counted,
        resets_at=resets,
    )


def hidden(text: str, secrets: Iterable[Secret]) -> str:
    """Return a text without secrets: a server may repeat what it was sent."""
    for secret in secrets:
        if secret.text:
            text = text.replace(secret.text, "[hidden]")
    return text


def _without_beginning(text: str, secrets: Iterable[Secret]) -> str:
    """Return a text that was cut off somewhere without the beginning of a secret at its end."""
    for secret in secrets:
        for length in range(len(secret.text) - 1, 3, -1):
            if text.endswith(secret.text[:length]):
                return f"{text[:-length]}[hidden]"
    return text


class Service:
    """QStash's API: where it is, and the token that opens it, which is not shown."""

    def __init__(self, url: str, token: str, poster: Poster, retry_policy: RetryPolicy) -> None:
        scheme, separator, rest = url.rstrip("/").partition("://")
        authority, slash, path = rest.partition("/")
        self.url = url
        self._base = scheme + separator + authority
        self._path = slash + path
        self._token = Secret(token, "token")
        self._poster = poster
        self._persistence = retry_policy

    def hidden(self, text: str, *secrets: Secret) -> str:
        """Return a text without the token and these secrets."""
        return hidden(text, (self._token, *secrets))

    async def ask(
        self, errand: Errand, make: Callable[[], Request], read: Callable[[Answer], _T | None]
    ) -> _T:
        """Make a request of `make`'s with the token, until `read` finds what it needs.

        Raises `SendError`.
        """

        def authorized() -> Request:
            request = make()
            headers = {"Authorization": f"Bearer {self._token.text}", **request.headers}
            return request._replace(target=self._path + request.target, headers=headers)

        errand = errand._replace(
            base=self._base, secrets=(self._token, *errand.secrets), window=WINDOW
        )
        return await self._poster.post(errand, authorized, read, self._persistence)
