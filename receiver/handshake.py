"""What senders ask beside their deliveries, and our answers: pure, no I/O.

A question is a request that is no delivery (`asked`), an unsigned one that stands in a delivery's
place (`unsigned`), or a delivery that has been verified (`question`). A source answers only to the
handshake it is configured with. Nobody's text is repeated but printable ASCII of bounded length.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

import msgspec

from hookmill.config.sources import Source
from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.places import form_fields, value_at
from hookmill.signatures.scheme import only_header
from hookmill.signatures.spec_verifier import SpecVerifier
from receiver.responses import Answer, Confirmation, Refusal

MAX_TEXT = 1024
"""Characters of a text that is repeated; those that senders are known to send have under 100."""

METHODS = {"meta": ("GET",), "dropbox": ("GET",), "head": ("HEAD",)}
"""What else than POST a handshake comes with."""

_PING = re.compile(rb"webhook_id=[0-9]{1,20}")

_NO_DELIVERY = Refusal(405, "method_not_allowed", "deliveries are sent with POST")


def asked(source: Source, method: str, target: str) -> Answer | Refusal:
    """Answer a request that is no delivery, from its line alone."""
    if method not in METHODS.get(source.handshake, ()):
        return _NO_DELIVERY
    if source.handshake == "head":
        return Answer()
    return _meta(source, target) if source.handshake == "meta" else _dropbox(target)


def unsigned(source: Source, delivery: Signed) -> Answer | None:
    """Answer what comes in a delivery's place and could not be signed; None: it is to be refused.

    WooCommerce asks for 200 before it knows the secret. All that is said thereby is that a source
    listens here, and that does every refusal as well.
    """
    if source.handshake != "woocommerce" or not isinstance(source.scheme, SpecVerifier):
        return None
    kind, _, name = source.scheme.spec.signature.partition(":")
    is_ping = _PING.fullmatch(delivery.body) and not (kind == "header" and name in delivery.headers)
    return Answer() if is_ping else None


def question(
    source: Source, delivery: Signed, verified: Verified
) -> Answer | Refusal | Confirmation | None:
    """Answer a verified delivery that is a question; None: it is a message."""
    answer = _QUESTIONS.get(source.handshake)
    return answer(source, delivery, verified) if answer else None


# --- no deliveries ---


def _meta(source: Source, target: str) -> Answer | Refusal:
    fields = _query(target)
    given = fields.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
    expected = source.verify_token.encode()
    # Judged first and alone, so that nothing is repeated to whoever does not know it.
    if not hmac.compare_digest(given, expected) or not expected:
        return Refusal(403, "verify_token_mismatch", "hub.verify_token is not the verify_token")
    if fields.get("hub.mode") != "subscribe":
        return _malformed("hub.mode is not subscribe")
    return _repeat(fields.get("hub.challenge"), "hub.challenge")


def _dropbox(target: str) -> Answer | Refusal:
    return _repeat(_query(target).get("challenge"), "challenge")


def _query(target: str) -> dict[str, str]:
    """Read a query's fields. One that stands there twice could mean two things: it counts for none.

    Whatever characters there are, they stay apart; those that no byte stands for as well.
    """
    fields = form_fields(target.partition("?")[2].encode("utf-8", "surrogatepass"))
    names = [name for name, _ in fields]
    return {name: value for name, value in fields if names.count(name) == 1}


# --- verified deliveries ---


def _slack(_source: Source, delivery: Signed, _verified: Verified) -> Answer | Refusal | None:
    if _type(delivery.body) != "url_verification":
        return None
    return _repeat(_challenge(delivery.body), "challenge")


def _twitch(_source: Source, delivery: Signed, _verified: Verified) -> Answer | Refusal | None:
    name = "Twitch-Eventsub-Message-Type"
    if name not in delivery.headers:
        return None
    kind = only_header(delivery.headers, name)
    if isinstance(kind, Refused):
        return Refusal(401, kind.code, kind.detail)
    if kind != b"webhook_callback_verification":
        return None  # a revocation as well: somebody should hear of it
    return _repeat(_challenge(delivery.body), "challenge")


def _zoom(source: Source, delivery: Signed, verified: Verified) -> Answer | Refusal | None:
    if _event(delivery.body) != "endpoint.url_validation" or not isinstance(
        source.scheme, SpecVerifier
    ):
        return None
    token = _plain_token(delivery.body)
    # What Zoom signs as a delivery has colons: no answer of ours may serve as such a signature.
    if token is None or not _is_plain(token) or ":" in token:
        return _malformed(f"payload.plainToken is not 1 to {MAX_TEXT} characters of plain text")
    encrypted = source.scheme.answer_with(verified.secret, token)
    return _json({"plainToken": token, "encryptedToken": encrypted})


def _discord(_source: Source, delivery: Signed, _verified: Verified) -> Answer | Refusal | None:
    kind = _type(delivery.body)
    # The ping of an interactions endpoint has the number of a webhook's event, which says what
    # happened in an object of its own.
    if kind == "1" and _event_type(delivery.body) is None:
        return _json({"type": 1})
    # Its documentation asks for a Content-Type although there is no content.
    return Answer(204, content_type="application/json") if kind == "0" else None


def _sns(source: Source, delivery: Signed, _: Verified) -> Confirmation | None:
    confirm = getattr(source.scheme, "confirmation_of", None)
    url = confirm(delivery.body) if confirm else None
    return Confirmation(url) if url else None


_Question = Callable[[Source, Signed, Verified], Answer | Refusal | Confirmation | None]

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


def _repeat(text: str | None, name: str) -> Answer | Refusal:
    if text is None or not _is_plain(text):
        return _malformed(f"{name} is not 1 to {MAX_TEXT} characters of plain text")
    return Answer(body=text.encode())


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= MAX_TEXT and text.isascii() and text.isprintable()


def _json(fields: dict[str, str | int]) -> Answer:
    return Answer(body=msgspec.json.encode(fields), content_type="application/json")


def _malformed(detail: str) -> Refusal:
    return Refusal(400, "handshake_malformed", detail)
