"""Answers what senders ask besides their deliveries (handshakes). No I/O.

A question comes as a request that is no delivery (`reply_to_request`), as an unsigned request in
place of a delivery (`reply_to_unsigned`), or as a verified delivery (`reply_to_verified`). A source
answers only the handshake that it is configured with. A sender's text is sent back only if it is
printable ASCII of limited length.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Callable

import msgspec

from hookmill.config.sources import Source
from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.forms import form_fields
from hookmill.signatures.places import value_at
from hookmill.signatures.scheme import only_header
from hookmill.signatures.spec_verifier import SpecVerifier
from receiver.responses import Refusal, Reply, handshake_reply

MAX_TEXT = 1024
"""The longest text that is sent back, in characters. Known senders send fewer than 100."""

METHODS = {"meta": ("GET",), "dropbox": ("GET",), "head": ("HEAD",)}
"""The methods besides POST that a handshake uses."""

_PING = re.compile(rb"webhook_id=[0-9]{1,20}")

_NO_DELIVERY = Refusal(405, "method_not_allowed", "deliveries are sent with POST")


def reply_to_request(source: Source, method: str, target: str) -> Reply | Refusal:
    """Answer a request that is no delivery. `target` is its path and query."""
    if method not in METHODS.get(source.handshake, ()):
        return _NO_DELIVERY
    if source.handshake == "head":
        return handshake_reply()
    return _meta(source, target) if source.handshake == "meta" else _dropbox(target)


def reply_to_unsigned(source: Source, delivery: Signed) -> Reply | None:
    """Answer WooCommerce's ping, which cannot be signed. None: refuse the delivery.

    WooCommerce expects a 200 before it knows the secret. The answer only shows that there is a
    source here, and a refusal shows that as well.
    """
    if source.handshake != "woocommerce" or not isinstance(source.scheme, SpecVerifier):
        return None
    kind, _, name = source.scheme.spec.signature.partition(":")
    is_ping = _PING.fullmatch(delivery.body) and not (kind == "header" and name in delivery.headers)
    return handshake_reply() if is_ping else None


def reply_to_verified(
    source: Source, delivery: Signed, verified: Verified
) -> Reply | Refusal | None:
    """Answer a verified delivery if it is a question. None: it is a message."""
    reply = _QUESTIONS.get(source.handshake)
    return reply(source, delivery, verified) if reply else None


# --- requests that are no deliveries ---


def _meta(source: Source, target: str) -> Reply | Refusal:
    fields = _query(target)
    given = fields.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
    expected = source.verify_token.encode()
    # Checked first, so that nothing is sent back to anybody who does not know the verify token.
    if not hmac.compare_digest(given, expected) or not expected:
        return Refusal(403, "verify_token_mismatch", "hub.verify_token is not the verify_token")
    if fields.get("hub.mode") != "subscribe":
        return _malformed("hub.mode is not subscribe")
    return _send_back(fields.get("hub.challenge"), "hub.challenge")


def _dropbox(target: str) -> Reply | Refusal:
    return _send_back(_query(target).get("challenge"), "challenge")


def _query(target: str) -> dict[str, str]:
    """Return the fields of a query. A field that appears twice is left out, as it is ambiguous.

    Different bytes stay different text, also those that are not valid UTF-8.
    """
    fields = form_fields(target.partition("?")[2].encode("utf-8", "surrogatepass"))
    times = Counter(name for name, _ in fields)
    return {name: value for name, value in fields if times[name] == 1}


# --- verified deliveries ---


def _slack(_source: Source, delivery: Signed, _verified: Verified) -> Reply | Refusal | None:
    if _type(delivery.body) != "url_verification":
        return None
    return _send_back(_challenge(delivery.body), "challenge")


def _twitch(_source: Source, delivery: Signed, _verified: Verified) -> Reply | Refusal | None:
    name = "Twitch-Eventsub-Message-Type"
    if name not in delivery.headers:
        return None
    kind = only_header(delivery.headers, name)
    if isinstance(kind, Refused):
        return Refusal(401, kind.code, kind.detail)
    if kind != b"webhook_callback_verification":
        return None  # a revocation is a message too, because somebody should see it
    return _send_back(_challenge(delivery.body), "challenge")


def _zoom(source: Source, delivery: Signed, verified: Verified) -> Reply | Refusal | None:
    if _event(delivery.body) != "endpoint.url_validation" or not isinstance(
        source.scheme, SpecVerifier
    ):
        return None
    token = _plain_token(delivery.body)
    # Zoom signs "v0:TIME:BODY". Without a colon, our answer cannot be used as such a signature.
    if token is None or not _is_plain(token) or ":" in token:
        return _malformed(f"payload.plainToken is not 1 to {MAX_TEXT} characters of plain text")
    encrypted = source.scheme.answer_with(verified.secret, token)
    return _json({"plainToken": token, "encryptedToken": encrypted})


def _discord(_source: Source, delivery: Signed, _verified: Verified) -> Reply | Refusal | None:
    kind = _type(delivery.body)
    # The ping of an interactions endpoint has the same number as an event of a webhook. Only the
    # latter has an object `event`.
    if kind == "1" and _event_type(delivery.body) is None:
        return _json({"type": 1})
    # Discord's documentation asks for a Content-Type, although there is no content.
    return handshake_reply(b"", "application/json", 204) if kind == "0" else None


def _sns(source: Source, delivery: Signed, _: Verified) -> Reply | None:
    confirmation_of = getattr(source.scheme, "confirmation_of", None)
    url = confirmation_of(delivery.body) if confirmation_of else None
    return handshake_reply()._replace(confirm_url=url) if url else None


_Question = Callable[[Source, Signed, Verified], Reply | Refusal | None]

_QUESTIONS: dict[str, _Question] = {
    "slack": _slack,
    "twitch": _twitch,
    "zoom": _zoom,
    "discord": _discord,
    "sns": _sns,
}

_type = value_at("type")
_challenge = value_at("challenge")
_event = value_at("event")
_event_type = value_at("event.type")
_plain_token = value_at("payload.plainToken")


# --- answers ---


def _send_back(text: str | None, name: str) -> Reply | Refusal:
    if text is None or not _is_plain(text):
        return _malformed(f"{name} is not 1 to {MAX_TEXT} characters of plain text")
    return handshake_reply(text.encode())


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= MAX_TEXT and text.isascii() and text.isprintable()


def _json(fields: dict[str, str | int]) -> Reply:
    return handshake_reply(msgspec.json.encode(fields), "application/json")


def _malformed(detail: str) -> Refusal:
    return Refusal(400, "handshake_malformed", detail)
