"""`Sender`: signs a typed event with the subscriber's secret and sends it.

It sends through QStash, or directly to the subscriber with the same call. `prepare` checks a
message completely before anything is sent, and `transport` makes the requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar, Unpack

from hookmill.config import dev_files
from hookmill.config.setting_values import check_qstash_url
from hookmill.config.settings import load_settings
from hookmill.errors import SendError, SettingsError
from hookmill.sending import qstash_api
from hookmill.sending.batches import SendResult, publish_all, result_of
from hookmill.sending.exchange import HttpResponse
from hookmill.sending.outgoing import Body, Outgoing, Published, QueueOptions, SendOptions
from hookmill.sending.payload import signer_of
from hookmill.sending.prepare import PreparedMessage, Route, SigningDefaults, prepare
from hookmill.sending.qstash_client import QStashClient
from hookmill.sending.retry_policy import RetryPolicy
from hookmill.sending.schedules import Schedules
from hookmill.sending.send_errors import RequestInfo
from hookmill.sending.times import seconds
from hookmill.sending.trace_headers import trace_headers
from hookmill.sending.transport import Transport
from hookmill.sending.urls import base_of, shown
from hookmill.signatures import Secret
from hookmill.signatures.spec import SignatureSpec

_T = TypeVar("_T")

DIRECT_AT_A_TIME = 50
"""Direct deliveries of one `send_many` that run at the same time."""


class Sender:
    """Sends events. Use it as an async context manager, or `close` it.

    It belongs to the event loop in which it first sends. `token` and `url` are QStash's (unset:
    QSTASH_TOKEN and QSTASH_URL, or those of an emulator that runs in this folder). With `direct`,
    QStash is not used: each message is posted to its URL, and only this process retries it.
    `secret` and `scheme` sign the messages that do not set their own. Raises `SettingsError`.

    With HOOKMILL_TRACES a message goes on in the current trace of OpenTelemetry. With `baggage` it
    also has the current baggage: do that only where every subscriber may read it.

    `only_public` is for direct delivery to URLs that others chose, such as customers. It connects
    to public addresses only, so that no URL reaches your own network; else `AddressRefusedError`.

    A scheme that signs a time (Standard Webhooks, Stripe, ...) signs the time of the first delivery
    attempt. The subscriber refuses QStash's later attempts that are beyond the scheme's tolerance,
    usually five minutes. With direct delivery each attempt is signed again.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        url: str | None = None,
        direct: bool = False,
        only_public: bool = False,
        baggage: bool = False,
        secret: str | Secret | None = None,
        scheme: str | SignatureSpec | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        self._retry_policy = retry_policy or RetryPolicy()
        self._defaults = SigningDefaults(secret, scheme)
        if secret is not None and scheme is not None:
            _checked("scheme", lambda: signer_of(scheme, secret))
        if only_public and not direct:
            raise SettingsError(
                ["only_public needs direct=True: otherwise QStash connects, and not this program"]
            )
        self._trace = trace_headers(with_baggage=baggage)
        self._transport = Transport(only_public=only_public)
        self._client = None if direct else self._make_client(token, url)
        self.schedules = Schedules(self._client, self._defaults)
        """QStash's schedules."""

    def _make_client(self, token: str | None, url: str | None) -> QStashClient:
        if token is None or url is None:
            settings = load_settings()
            if url is None and "qstash_url" in settings.model_fields_set:
                url = settings.qstash_url
            token = token or settings.token
            if not token:
                url, token = _of_emulator(url)
            url = url or settings.qstash_url
        if not token:
            raise SettingsError(
                ["QSTASH_TOKEN is not set: give QStash's token, or direct=True to send without it"]
            )
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise SettingsError(["QSTASH_TOKEN: a token is one word of ASCII characters"])
        base = _checked("url", lambda: check_qstash_url(url))
        return QStashClient(base, token, self._transport, self._retry_policy)

    def __repr__(self) -> str:
        return f"Sender({self._client.url if self._client else 'direct'})"

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
        await self._transport.close()

    # --- sending ---

    async def send(self, url: str, event: Body, **options: Unpack[SendOptions]) -> Published:
        """Send `event` to `url`; `Outgoing` describes the options.

        It is published once, however many attempts that takes. Raises `SendError`; with its
        `deduplication_id` a caller can send the same message again.
        """
        return await self._send(self._prepare(Outgoing(url, event, **options)))

    async def enqueue(
        self, queue: str, url: str, event: Body, **options: Unpack[QueueOptions]
    ) -> Published:
        """Add `event` for `url` to a queue. Raises `SendError`."""
        return await self._send(self._prepare(Outgoing(url, event, queue=queue, **options)))

    async def send_to_group(
        self, group: str, event: Body, **options: Unpack[SendOptions]
    ) -> list[Published]:
        """Send `event` to all endpoints of a URL group, a message to each. Raises `SendError`."""
        client = self._require_client("send_to_group")
        prepared = self._prepare(Outgoing(group, event, **options), "group")

        def read(response: HttpResponse) -> list[Published] | None:
            return qstash_api.read_group(response, prepared.deduplication_id)

        info = _info(f"publishing to the URL group {group}", prepared)
        return await client.request(info, lambda: prepared.publish_request(time.time()), read)

    async def send_many(self, messages: Iterable[Outgoing]) -> list[SendResult]:
        """Send several messages together; return their results, in their order.

        The error of a message is not raised: a `SendError` stands in its place, and the other
        messages are sent all the same.
        """
        prepared: list[PreparedMessage | SendError] = [self._prepared(one) for one in messages]
        ready = [one for one in prepared if not isinstance(one, SendError)]
        if self._client is None:
            sent = iter(await self._deliver_all(ready))
        else:
            sent = iter(await publish_all(self._client, ready, self._send))
        return [one if isinstance(one, SendError) else next(sent) for one in prepared]

    def _prepared(self, outgoing: Outgoing) -> PreparedMessage | SendError:
        try:
            return self._prepare(outgoing)
        except SendError as error:
            return error

    def _prepare(self, outgoing: Outgoing, route: Route | None = None) -> PreparedMessage:
        if self._trace is not None:
            outgoing = self._trace.added_to(outgoing)
        route = route or ("direct" if self._client is None else "publish")
        return prepare(outgoing, route, self._defaults, time.time())

    async def _send(self, prepared: PreparedMessage) -> Published:
        if self._client is None:
            return await self._deliver(prepared)
        return await self._publish(self._client, prepared)

    async def _publish(self, client: QStashClient, prepared: PreparedMessage) -> Published:
        url = prepared.outgoing.url

        def read(response: HttpResponse) -> Published | None:
            return qstash_api.read_published(response, url, prepared.deduplication_id)

        info = _info(f"publishing to {shown(url)}", prepared)
        return await client.request(info, lambda: prepared.publish_request(time.time()), read)

    async def _deliver(self, prepared: PreparedMessage) -> Published:
        outgoing, retry_policy = prepared.outgoing, self._retry_policy
        if outgoing.retries is not None:
            retry_policy = replace(retry_policy, attempts=outgoing.retries + 1)
        if outgoing.timeout is not None:
            retry_policy = replace(retry_policy, total=seconds("timeout", outgoing.timeout))
        info = _info(f"delivering to {shown(outgoing.url)}", prepared)
        info = info._replace(base=base_of(outgoing.url), needs_body=False)
        published = Published(
            prepared.id, deduplicated=False, deduplication_id=prepared.id, url=outgoing.url
        )
        return await self._transport.send(
            info, lambda: prepared.direct_request(time.time()), lambda _: published, retry_policy
        )

    async def _deliver_all(self, messages: list[PreparedMessage]) -> list[SendResult]:
        slots = asyncio.Semaphore(DIRECT_AT_A_TIME)

        async def deliver(prepared: PreparedMessage) -> SendResult:
            async with slots:
                return await result_of(self._deliver, prepared)

        return await asyncio.gather(*map(deliver, messages))

    def _require_client(self, what: str) -> QStashClient:
        if self._client is None:
            raise SendError(
                f"{what}: only QStash can do that: use a Sender without direct=True",
                may_be_published=False,
            )
        return self._client


def _of_emulator(url: str | None) -> tuple[str | None, str | None]:
    """Return the URL and token of an emulator that runs in this folder. If there is none, or if
    `url` names another service, return `url` and no token.
    """
    for name in (dev_files.DEV, dev_files.QSTASH):
        found = dev_files.of_running(name)
        here, token = found.get("QSTASH_URL"), found.get("QSTASH_TOKEN")
        if token and here and (url is None or url.rstrip("/") == here):
            return here, token
    return url, None


def _checked(option: str, check: Callable[[], _T]) -> _T:
    """Raise a fault of an argument as a `SettingsError` that names the argument."""
    try:
        return check()
    except ValueError as error:
        fault = str(error)
    raise SettingsError([fault if fault.startswith(f"{option}: ") else f"{option}: {fault}"])


def _info(purpose: str, prepared: PreparedMessage) -> RequestInfo:
    secrets = (prepared.secret,)
    return RequestInfo(purpose, deduplication_id=prepared.deduplication_id, secrets=secrets)
