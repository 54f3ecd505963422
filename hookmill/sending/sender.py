"""`Sender`: signs a typed event with the subscriber's secret and has it delivered.

Through QStash, or to the subscriber itself with the same call. A message is judged whole before
anything goes out (`preparing`), and `posting` then sees it through.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar, Unpack

from hookmill.config.setting_values import check_qstash_url
from hookmill.config.settings import load_settings
from hookmill.errors import SendError, SettingsError
from hookmill.sending import qstash_api
from hookmill.sending.batches import Result, publish_all, tried
from hookmill.sending.outgoing import Body, Outgoing, Published, QueueOptions, SendOptions
from hookmill.sending.payload import signer_of
from hookmill.sending.prepare import Defaults, Prepared, Way, prepare
from hookmill.sending.qstash_api import shown
from hookmill.sending.retry_policy import Answer, RetryPolicy
from hookmill.sending.schedules import Schedules
from hookmill.sending.transport import Errand, Poster, Service
from hookmill.signatures import Secret
from hookmill.signatures.spec import SignatureSpec

_T = TypeVar("_T")

AT_A_TIME = 50
"""Messages of one `send_many` that are delivered directly at the same time."""


class Sender:
    """Sends events. An async context manager; without one, `close` it. It belongs to the event loop
    in which it first sends.

    `token` and `url` are QStash's (unset: QSTASH_TOKEN and QSTASH_URL). `direct`: no QStash; each
    message is posted to its URL, and tried again by this process alone. `secret` and `scheme` sign
    what does not say otherwise. Raises `SettingsError`.

    What is signed together with a time (Standard Webhooks, Stripe, ...) is signed for the time of
    its first delivery: attempts of QStash's beyond the scheme's tolerance, five minutes as a rule,
    are refused by the subscriber. Sent directly, each attempt is signed anew.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        url: str | None = None,
        direct: bool = False,
        secret: str | Secret | None = None,
        scheme: str | SignatureSpec | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        self._persistence = retry_policy or RetryPolicy()
        self._defaults = Defaults(secret, scheme)
        if secret is not None and scheme is not None:
            _checked("scheme", lambda: signer_of(scheme, secret))
        self._poster = Poster()
        self._service = None if direct else self._reach(token, url)
        self.schedules = Schedules(self._service, self._defaults)
        """QStash's schedules."""

    def _reach(self, token: str | None, url: str | None) -> Service:
        if token is None or url is None:
            settings = load_settings()
            token, url = token or settings.token, url or settings.qstash_url
        if not token:
            raise SettingsError(
                ["QSTASH_TOKEN is not set: give QStash's token, or direct=True to do without"]
            )
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise SettingsError(["QSTASH_TOKEN: a token is a word of ASCII characters"])
        base = _checked("url", lambda: check_qstash_url(url))
        return Service(base, token, self._poster, self._persistence)

    def __repr__(self) -> str:
        return f"Sender({self._service.url if self._service else 'direct'})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Nothing can be sent afterwards."""
        await self._poster.close()

    # --- sending ---

    async def send(self, url: str, event: Body, **options: Unpack[SendOptions]) -> Published:
        """Send `event` to `url`; `Outgoing` says what the options are.

        However often this has to be tried, it is published once. Raises `SendError`, whose
        `deduplication_id` lets a caller go on with the same message.
        """
        return await self._send(self._prepare(Outgoing(url, event, **options)))

    async def enqueue(
        self, queue: str, url: str, event: Body, **options: Unpack[QueueOptions]
    ) -> Published:
        """Put `event` for `url` at the end of a queue. Raises `SendError`."""
        return await self._send(self._prepare(Outgoing(url, event, queue=queue, **options)))

    async def send_to_group(
        self, group: str, event: Body, **options: Unpack[SendOptions]
    ) -> list[Published]:
        """Send `event` to all endpoints of a URL group, each a message. Raises `SendError`."""
        service = self._reached("send_to_group")
        prepared = self._prepare(Outgoing(group, event, **options), "group")

        def read(answer: Answer) -> list[Published] | None:
            return qstash_api.read_group(answer, prepared.deduplication_id)

        errand = _errand(f"publishing to the group {group}", prepared)
        return await service.ask(errand, lambda: prepared.published(time.time()), read)

    async def send_many(self, messages: Iterable[Outgoing]) -> list[Result]:
        """Send several together; return what became of each, in their order.

        Nothing that concerns a message is raised: what could not be sent is a `SendError` in its
        place, and the others go out all the same.
        """
        prepared: list[Prepared | SendError] = [self._judged(one) for one in messages]
        ready = [one for one in prepared if not isinstance(one, SendError)]
        if self._service is None:
            sent = iter(await self._deliver_all(ready))
        else:
            sent = iter(await publish_all(self._service, ready, self._send))
        return [one if isinstance(one, SendError) else next(sent) for one in prepared]

    def _judged(self, outgoing: Outgoing) -> Prepared | SendError:
        try:
            return self._prepare(outgoing)
        except SendError as error:
            return error

    def _prepare(self, outgoing: Outgoing, way: Way | None = None) -> Prepared:
        way = way or ("direct" if self._service is None else "publish")
        return prepare(outgoing, way, self._defaults, time.time())

    async def _send(self, prepared: Prepared) -> Published:
        if self._service is None:
            return await self._deliver(prepared)
        return await self._publish(self._service, prepared)

    async def _publish(self, service: Service, prepared: Prepared) -> Published:
        url = prepared.outgoing.url

        def read(answer: Answer) -> Published | None:
            return qstash_api.read_published(answer, url, prepared.deduplication_id)

        errand = _errand(f"publishing to {shown(url)}", prepared)
        return await service.ask(errand, lambda: prepared.published(time.time()), read)

    async def _deliver(self, prepared: Prepared) -> Published:
        outgoing, retry_policy = prepared.outgoing, self._persistence
        if outgoing.retries is not None:
            retry_policy = replace(retry_policy, attempts=outgoing.retries + 1)
        if outgoing.timeout is not None:
            total = qstash_api.seconds("timeout", outgoing.timeout)
            retry_policy = replace(retry_policy, total=total)
        errand = _errand(f"delivering to {shown(outgoing.url)}", prepared)
        errand = errand._replace(base=qstash_api.base_of(outgoing.url), needs_body=False)
        published = Published(
            prepared.id, deduplicated=False, deduplication_id=prepared.id, url=outgoing.url
        )
        return await self._poster.post(
            errand, lambda: prepared.delivered(time.time()), lambda _: published, retry_policy
        )

    async def _deliver_all(self, messages: list[Prepared]) -> list[Result]:
        places = asyncio.Semaphore(AT_A_TIME)

        async def deliver(prepared: Prepared) -> Result:
            async with places:
                return await tried(self._deliver, prepared)

        return await asyncio.gather(*map(deliver, messages))

    def _reached(self, what: str) -> Service:
        if self._service is None:
            raise SendError(
                f"{what}: only QStash can do that: use a Sender without direct=True",
                may_be_published=False,
            )
        return self._service


def _checked(word: str, check: Callable[[], _T]) -> _T:
    """Have what a sender is made with be refused as settings are."""
    try:
        return check()
    except ValueError as error:
        fault = str(error)
    raise SettingsError([fault if fault.startswith(f"{word}: ") else f"{word}: {fault}"])


def _errand(what: str, prepared: Prepared) -> Errand:
    return Errand(what, deduplication_id=prepared.deduplication_id, secrets=(prepared.secret,))
