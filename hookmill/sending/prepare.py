"""Judges a message whole before anything goes out, and holds what is needed to send it. No I/O.

Whatever is wrong with it is a `SendError` that names the option; surely nothing was published then.
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
from hookmill.sending.outgoing import Outgoing
from hookmill.sending.payload import (
    Letter,
    Payload,
    encode,
    seal,
    signer_of,
    signs_id,
    signs_place,
    signs_time,
    target_of,
    writes_body,
)
from hookmill.sending.qstash_api import Request
from hookmill.signatures import Secret
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

Way = Literal["publish", "group", "schedule", "direct"]
"""How a message leaves: to a URL, to a URL group, by a schedule, or without QStash."""

_ONLY_QSTASH = (
    "delay", "not_before", "retry_delay", "callback", "callback_headers", "failure_callback",
    "failure_callback_headers", "content_based_deduplication", "flow_control", "queue",
)  # fmt: skip


class Defaults(NamedTuple):
    """What is signed with where a message does not say it."""

    secret: str | Secret | None = None
    scheme: str | SignatureSpec | None = None

    def __repr__(self) -> str:
        return "Defaults()"


class Prepared(NamedTuple):
    """A message of which everything has been judged, ready to go out.

    `id` is the deduplication ID; "" where the content is compared, for it would be another content
    each time, and in a schedule, which sends many.
    """

    outgoing: Outgoing
    id: str
    payload: Payload
    headers: Mapping[str, str]
    options: Mapping[str, str]
    signer: SpecVerifier | None
    secret: Secret

    def __repr__(self) -> str:
        return f"Prepared({self.id})"  # its headers and its options may hold secrets

    @property
    def deduplication_id(self) -> str | None:
        """What QStash compares; None: nothing, or the content."""
        return self.id or None

    def letter(self, now: float) -> Letter:
        """Return it signed, as of the time at which it will be delivered first.

        Raises `SendError`.
        """
        outgoing, payload = self.outgoing, self.payload
        headers = CIMultiDict({"Content-Type": payload.content_type})
        headers.update(self.headers)
        letter = Letter(outgoing.url, outgoing.method or "POST", headers, payload.body)
        with refusing(self.deduplication_id):
            moment = qstash_api.delivered_at(outgoing, now)
            return seal(letter, self.signer, self.id, moment)

    def published(self, now: float) -> Request:
        """Return the request that publishes it."""
        return qstash_api.publish(self.letter(now), self.options, self.outgoing.queue)

    def delivered(self, now: float) -> Request:
        """Return the request that delivers it to the subscriber itself."""
        letter = self.letter(now)
        return Request(letter.method, target_of(letter.url), letter.headers, letter.body)

    def item(self, now: float) -> bytes | None:
        """Return it as an item of a batch; None where only a request of its own can hold it."""
        return qstash_api.batch_item(self.letter(now), self.options, self.outgoing.queue)


def prepare(outgoing: Outgoing, way: Way, defaults: Defaults, now: float) -> Prepared:
    """Judge a message; `now` is in Unix seconds. Raises `SendError`."""
    given = outgoing.deduplication_id
    is_repeated = way == "schedule"
    has_id = not is_repeated and not outgoing.content_based_deduplication
    with refusing(given):
        _check_way(outgoing, way)
        # What is given and empty is a fault: unsigned, or signed by another, nobody would see it.
        scheme = defaults.scheme if outgoing.scheme is None else outgoing.scheme
        secret = defaults.secret if outgoing.secret is None else outgoing.secret
        signer = signer_of(scheme, secret)
        spec = signer.spec if signer else None
        payload = encode(outgoing.event, spec, now, timed=not is_repeated)
        if spec:
            _check_shape(outgoing, spec, way)
        if outgoing.content_based_deduplication:
            _check_content_based(payload, spec)
        options = qstash_api.option_headers(outgoing)
        message_id = given or (f"evt_{uuid.uuid4().hex}" if has_id else "")
        if message_id:
            options["Upstash-Deduplication-Id"] = message_id
        headers = qstash_api.forwarded(outgoing.headers)
        own = secret if isinstance(secret, Secret) else Secret(secret or "")
        return Prepared(outgoing, message_id, payload, headers, options, signer, own)


def _check_way(outgoing: Outgoing, way: Way) -> None:
    if way == "group":
        qstash_api.check_name("url_group", outgoing.url)
    elif way == "direct":
        qstash_api.check_url("url", outgoing.url)
        for name in _ONLY_QSTASH:
            if getattr(outgoing, name):
                raise ValueError(f"{name}: only QStash can do that: send it without direct=True")
    else:
        qstash_api.check_destination("url", outgoing.url)
    if outgoing.queue is not None:
        qstash_api.check_name("queue", outgoing.queue)
        for name in ("delay", "not_before", "flow_control"):
            if way != "schedule" and getattr(outgoing, name) is not None:
                raise ValueError(f"{name}: a queue decides itself when a message's turn is")


def _check_shape(outgoing: Outgoing, spec: SignatureSpec, way: Way) -> None:
    """Refuse a way to sign that cannot hold for this message."""
    if way == "group" and signs_place(spec):
        raise ValueError("scheme: it signs the URL, and a URL group has several")
    if way == "schedule" and (signs_time(spec) or signs_id(spec)):
        raise ValueError(
            "scheme: it signs a time or an ID, and a schedule sends the same bytes each time: use "
            "one that signs the body alone, such as marble"
        )
    if not isinstance(outgoing.event, Event | Mapping) and writes_body(spec):
        raise ValueError("scheme: its signature stands in the body: give an Event or a dict")


def _check_content_based(payload: Payload, spec: SignatureSpec | None) -> None:
    """Refuse a comparison by content where no two contents are equal."""
    if payload.is_timed or (spec and (signs_time(spec) or signs_id(spec))):
        raise ValueError(
            "content_based_deduplication: each sending has its own time or ID in what is sent, so "
            "that no two are equal: give a deduplication_id"
        )


@contextmanager
def refusing(deduplication_id: str | None) -> Iterator[None]:
    """Have what is wrong with a message leave as a `SendError`."""
    try:
        yield
    except (HookmillError, ValueError) as error:
        raise SendError(
            str(error), deduplication_id=deduplication_id, may_be_published=False
        ) from None
