"""Checks a message completely before anything is sent, and keeps what sending it needs. No I/O.

A fault is a `SendError` that names the option; nothing has been published then.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from multidict import CIMultiDict

from hookmill.errors import HookmillError, SendError
from hookmill.events import Event
from hookmill.sending import qstash_api
from hookmill.sending.exchange import HttpRequest
from hookmill.sending.outgoing import Outgoing
from hookmill.sending.payload import (
    DeliveryRequest,
    Payload,
    encode,
    sign,
    signer_of,
    signs_id,
    signs_time,
    signs_url,
    writes_body,
)
from hookmill.sending.qstash_options import forwarded, option_headers
from hookmill.sending.times import delivered_at
from hookmill.sending.urls import check_destination, check_name, check_url, target_of
from hookmill.signatures import Secret
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

Route = Literal["publish", "group", "schedule", "direct"]
"""How a message is sent: to a URL, to a URL group, by a schedule, or without QStash."""

_ONLY_QSTASH = (
    "delay", "not_before", "retry_delay", "callback", "callback_headers", "failure_callback",
    "failure_callback_headers", "content_based_deduplication", "flow_control", "queue",
)  # fmt: skip


class SigningDefaults(NamedTuple):
    """The secret and scheme of messages that do not set their own."""

    secret: str | Secret | None = None
    scheme: str | SignatureSpec | None = None

    def __repr__(self) -> str:
        return "SigningDefaults()"


class PreparedMessage(NamedTuple):
    """A message that passed all checks and can be sent.

    `id` is the deduplication ID. It is "" where QStash compares the content, because an ID would
    change the content, and in a schedule, which sends many messages.
    """

    outgoing: Outgoing
    id: str
    payload: Payload
    headers: Mapping[str, str]
    options: Mapping[str, str]
    signer: SpecVerifier | None
    secret: Secret

    def __repr__(self) -> str:
        return f"PreparedMessage({self.id})"  # headers and options may contain secrets

    @property
    def deduplication_id(self) -> str | None:
        """The ID that QStash compares; None if it compares nothing, or the content."""
        return self.id or None

    def delivery(self, now: float) -> DeliveryRequest:
        """Return the signed request to the subscriber; `now` is in Unix seconds.

        It is signed for the time of the first delivery attempt. Raises `SendError`.
        """
        outgoing, payload = self.outgoing, self.payload
        headers = CIMultiDict({"Content-Type": payload.content_type})
        headers.update(self.headers)
        method = outgoing.method or "POST"
        delivery = DeliveryRequest(outgoing.url, method, headers, payload.body)
        with raise_send_error(self.deduplication_id):
            return sign(delivery, self.signer, self.id, delivered_at(outgoing, now))

    def publish_request(self, now: float) -> HttpRequest:
        """Return the request that publishes it through QStash."""
        return qstash_api.publish(self.delivery(now), self.options, self.outgoing.queue)

    def direct_request(self, now: float) -> HttpRequest:
        """Return the request that delivers it to the subscriber directly."""
        delivery = self.delivery(now)
        target = target_of(delivery.url)
        return HttpRequest(delivery.method, target, delivery.headers, delivery.body)

    def batch_item(self, now: float) -> bytes | None:
        """Return it as an item of a batch; None if it needs a request of its own."""
        return qstash_api.batch_item(self.delivery(now), self.options, self.outgoing.queue)


def prepare(
    outgoing: Outgoing, route: Route, defaults: SigningDefaults, now: float
) -> PreparedMessage:
    """Check a message; `now` is in Unix seconds. Raises `SendError`."""
    given = outgoing.deduplication_id
    is_schedule = route == "schedule"
    has_id = not is_schedule and not outgoing.content_based_deduplication
    with raise_send_error(given):
        _check_route(outgoing, route)
        # An empty scheme or secret does not fall back to the default: it is refused as a fault,
        # because nobody would notice that the message is unsigned.
        scheme = defaults.scheme if outgoing.scheme is None else outgoing.scheme
        secret = defaults.secret if outgoing.secret is None else outgoing.secret
        signer = signer_of(scheme, secret)
        spec = signer.spec if signer else None
        payload = encode(outgoing.event, spec, now, timed=not is_schedule)
        if spec:
            _check_spec(outgoing, spec, route)
        if outgoing.content_based_deduplication:
            _check_content_based(payload, spec)
        options = option_headers(outgoing)
        message_id = given or (f"evt_{uuid.uuid4().hex}" if has_id else "")
        if message_id:
            options["Upstash-Deduplication-Id"] = message_id
        headers = forwarded(outgoing.headers)
        own = secret if isinstance(secret, Secret) else Secret(secret or "")
        return PreparedMessage(outgoing, message_id, payload, headers, options, signer, own)


def _check_route(outgoing: Outgoing, route: Route) -> None:
    if route == "group":
        check_name("url_group", outgoing.url)
    elif route == "direct":
        check_url("url", outgoing.url)
        for name in _ONLY_QSTASH:
            if getattr(outgoing, name):
                raise ValueError(
                    f"{name}: only QStash can do that: use a Sender without direct=True"
                )
    else:
        check_destination("url", outgoing.url)
    if outgoing.queue is not None:
        check_name("queue", outgoing.queue)
        for name in ("delay", "not_before", "flow_control"):
            if route != "schedule" and getattr(outgoing, name) is not None:
                raise ValueError(f"{name}: it does not go with a queue, which decides the order")


def _check_spec(outgoing: Outgoing, spec: SignatureSpec, route: Route) -> None:
    """Refuse a scheme that cannot work for this message."""
    if route == "group" and signs_url(spec):
        raise ValueError("scheme: it signs the URL, and a URL group has several")
    if route == "schedule" and (signs_time(spec) or signs_id(spec)):
        raise ValueError(
            "scheme: it signs a time or an ID, but a schedule sends the same bytes each time: use "
            "a scheme that signs the body alone, such as marble"
        )
    if not isinstance(outgoing.event, Event | Mapping) and writes_body(spec):
        raise ValueError("scheme: it writes its signature into the body: give an Event or a dict")


def _check_content_based(payload: Payload, spec: SignatureSpec | None) -> None:
    """Refuse a comparison by content where the content is never equal."""
    if payload.is_timed or (spec and (signs_time(spec) or signs_id(spec))):
        raise ValueError(
            "content_based_deduplication: each message contains its own time or ID, so no two are "
            "equal: give a deduplication_id instead"
        )


@contextmanager
def raise_send_error(deduplication_id: str | None) -> Iterator[None]:
    """Turn a fault of a message into a `SendError`."""
    try:
        yield
    except (HookmillError, ValueError) as error:
        raise SendError(
            str(error), deduplication_id=deduplication_id, may_be_published=False
        ) from None
