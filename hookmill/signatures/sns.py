"""Amazon SNS' scheme: RSA over some fields of the JSON body, with a certificate whose URL is in the
body. In place of secrets, the operator names the topics that may send.

The certificate comes without its chain, so it is trusted because of the host that it is fetched
from over TLS: the one of SNS in the topic's region. (A pattern would allow similar hosts, such as a
bucket called "sns".) Only the named fields are signed; message attributes are not.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from hookmill.errors import SettingsError
from hookmill.signatures.certificates import (
    AllowedSenders,
    KnownKeys,
    certificates_in,
    ends_of,
    has_signed,
    judge_dates,
    names_of,
    rsa_key_of,
    signed_time,
)
from hookmill.signatures.keys import decode
from hookmill.signatures.scheme import (
    NeedsCertificate,
    NetworkVerdict,
    OnStep,
    Refused,
    Secret,
    Signed,
    Verified,
)
from hookmill.signatures.sns_topics import (
    Topic,
    is_certificate,
    is_confirmation,
    parsed,
    signers_of,
    topic_of,
)

TOLERANCE = 3900.0
"""Seconds that a message may be old. Its time is set once, when it is published, and SNS retries
for up to 3600 s; five minutes more are for the attempts themselves. A copy within this time is a
duplicate, because the message ID is signed. A subscription with a throttle may need more.
"""

_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = (
    *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
)
_SIGNED = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_DIGESTS = {"1": "sha1", "2": "sha256"}


MAX_BODY = 4 * 1024 * 1024
"""The most bytes of a body. SNS sends at most 256 KiB of text, which JSON may write with up to six
bytes for one. A larger body would take much memory before its signature has been verified.
"""

_MAX_SIGNATURE = 2048
"""The most characters of a signature. One of an RSA key of 8,192 bits has 1,368."""


class _SnsMessage(msgspec.Struct, frozen=True):
    Type: str
    MessageId: str
    TopicArn: str
    Message: str
    Timestamp: str
    SignatureVersion: str
    Signature: str
    SigningCertURL: str
    Subject: str | None = None
    SubscribeURL: str | None = None
    Token: str | None = None


class SnsNames(NamedTuple):
    """The signed ID of a message, and its type: the name of the topic, or for a message that is no
    notification the `Type` that SNS gives it.
    """

    id: str
    type: str


_NOT_ALLOWED = "the topic is not among the topics of this source"

_sns_message = msgspec.json.Decoder(_SnsMessage)


class SNS:
    """Verifies notifications of the given topics (their ARNs). `with_sha1` accepts
    SignatureVersion 1, which is the default of a topic.

    Raises `SettingsError` if a topic is not written as an ARN.
    """

    def __init__(
        self,
        topics: Sequence[str | Secret],
        *,
        tolerance: float = TOLERANCE,
        with_sha1: bool = True,
    ) -> None:
        self._allowed = AllowedSenders(topics)
        self._topics = {one.text: topic_of(one.text) for one in self._allowed.secrets}
        self._hosts = {topic.host for topic in self._topics.values()}
        self._tolerance = tolerance
        self._digests = {v: one for v, one in _DIGESTS.items() if with_sha1 or v != "1"}
        self._keys = KnownKeys()
        self.proven_urls: Collection[str] = self._keys.proven

    @property
    def labels(self) -> list[str]:
        """The labels of the topics, by position."""
        return self._allowed.labels

    def verify(self, delivery: Signed, now: float) -> NetworkVerdict:
        """Judge a delivery. Asks for a certificate only if everything else is right."""
        return self._judge(delivery, now, None)

    def explain(self, delivery: Signed, now: float, on_step: OnStep) -> NetworkVerdict:
        """Judge a delivery as `verify` does, and explain each step."""
        return self._judge(delivery, now, on_step)

    def learn(self, url: str, pem: bytes, now: float) -> Refused | None:
        """Remember the certificate that was fetched from `url` if it is SNS' and valid now."""
        found = certificates_in(pem)
        topic = next((one for one in self._topics.values() if is_certificate(url, one)), None)
        if topic is None or not found:
            return Refused("certificate_malformed", "there is no certificate of SNS at its URL")
        leaf = found[0]
        if not names_of(leaf) & signers_of(topic):
            return Refused("certificate_not_theirs", "the certificate has no name of SNS")
        if leaf.issuer == leaf.subject:
            return Refused("certificate_untrusted", "the certificate is signed by its own key")
        key = judge_dates(leaf, now) or rsa_key_of(leaf)
        if isinstance(key, Refused):
            return key
        self._keys.remember(url, key, ends_of(leaf), now)
        return None

    def sign(self, delivery: Signed, now: float) -> Signed:  # noqa: ARG002 - a scheme's signature
        """Raise `SettingsError`: only SNS has the key."""
        raise SettingsError(["sns: only the sender has the key to sign with"])

    def confirmation_of(self, body: bytes) -> str | None:
        """Return the URL that confirms a subscription; None if a verified body asks for none."""
        message = _read(body)
        if message is None or message.Type != "SubscriptionConfirmation":
            return None
        topic = self._topics.get(message.TopicArn)
        url = message.SubscribeURL or ""
        return url if topic and is_confirmation(url, topic, message.TopicArn) else None

    def _judge(self, delivery: Signed, now: float, on_step: OnStep | None) -> NetworkVerdict:
        message = _message_in(delivery.body)
        if isinstance(message, Refused):
            return message
        if refusal := _judge_fields(message):
            return refusal
        text = message.Timestamp.encode("utf-8", "surrogatepass")
        moment = signed_time(text, "Timestamp", now, self._tolerance, on_step)
        if isinstance(moment, Refused):
            return moment
        topic = _judge_places(message)
        if isinstance(topic, Refused):
            return topic
        allowed = self._position(message.TopicArn, now)
        cause = "" if allowed is not None else _NOT_ALLOWED
        if verdict := self._judge_signature(message, topic, now, on_step, cause):
            return verdict
        # Only a genuine message learns this, so that nobody can try which topics are allowed.
        if allowed is None:
            return Refused("topic_not_allowed", _NOT_ALLOWED)
        self._keys.prove(message.SigningCertURL)
        if _names_a_field_twice(delivery.body):
            return Refused(
                "field_repeated",
                "the body names a field twice, so it is unknown which one was signed",
            )
        return Verified(allowed)

    def _position(self, arn: str, now: float) -> int | None:
        given = arn.encode("utf-8", "surrogatepass")
        topics = self._allowed.valid_at(now)
        return next((n for n, text in topics if hmac.compare_digest(text, given)), None)

    def _judge_signature(
        self, message: _SnsMessage, topic: Topic, now: float, on_step: OnStep | None, cause: str
    ) -> Refused | NeedsCertificate | None:
        """Compare the signature. `cause` is what the log says of a message that is not genuine: the
        answer is the same for each topic.
        """
        digest = self._digests.get(message.SignatureVersion)
        if digest is None:
            versions = " or ".join(self._digests)
            return Refused("version_unsupported", f"SignatureVersion is not {versions}")
        text = message.Signature[: _MAX_SIGNATURE + 1].encode("utf-8", "surrogatepass")
        signature = decode(text, "base64") if len(text) <= _MAX_SIGNATURE else None
        if signature is None:
            return Refused("signature_malformed", "Signature is not base64")
        url = message.SigningCertURL
        key = self._keys.find(url, now)
        if on_step:
            on_step(f"certificate: {url}, {'not known yet' if key is None else 'known'}")
        mismatch = Refused(
            "signature_mismatch",
            f"Signature is not the RSA signature ({digest.upper()}) of the message's fields "
            "under the certificate's key",
            cause,
        )
        if key is None:
            # Nothing is requested from a host of which no topic is allowed.
            return NeedsCertificate(url) if topic.host in self._hosts else mismatch
        content = _content(message)
        if on_step:
            on_step(f"signed content: {len(content)} bytes, {content[:60]!r} ... {content[-40:]!r}")
        return None if has_signed(key, content, signature, digest) else mismatch


def names_in(body: bytes) -> SnsNames | None:
    """Return ID and type of a verified body; None if it is no message of SNS."""
    message = _read(body)
    if message is None:
        return None
    is_message = message.Type == "Notification"
    return SnsNames(
        message.MessageId, message.TopicArn.rpartition(":")[2] if is_message else message.Type
    )


def _judge_places(message: _SnsMessage) -> Topic | Refused:
    """Return the topic that a message names. Refuses URLs that are not at SNS in its region."""
    topic = parsed(message.TopicArn)
    if topic is None:
        return Refused("field_malformed", "TopicArn is not the ARN of a topic")
    if not is_certificate(message.SigningCertURL, topic):
        return Refused("certificate_elsewhere", f"SigningCertURL is no certificate on {topic.host}")
    url = message.SubscribeURL or ""
    if message.Type == "SubscriptionConfirmation" and not is_confirmation(
        url, topic, message.TopicArn
    ):
        return Refused("confirmation_elsewhere", f"SubscribeURL is no confirmation on {topic.host}")
    return topic


def _message_in(body: bytes) -> _SnsMessage | Refused:
    if len(body) > MAX_BODY:
        return Refused("value_too_long", f"a message of SNS has at most {MAX_BODY} bytes")
    message = _read(body)
    if message is None:
        return Refused(
            "body_malformed", "the body is not a message of SNS: switch raw message delivery off"
        )
    return message


def _read(body: bytes) -> _SnsMessage | None:
    try:
        return _sns_message.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _judge_fields(message: _SnsMessage) -> Refused | None:
    """Refuse a field that holds a line break, because line breaks separate the signed fields.

    Only `Message` may hold some.
    """
    names = _SIGNED.get(message.Type)
    if names is None:
        return Refused("type_unknown", "SNS sends no message of this Type")
    for name in names:
        value = getattr(message, name)
        if value is None:
            if name != "Subject":
                return Refused("field_missing", f"there is no {name}")
        elif name != "Message" and ("\n" in value or "\r" in value):
            return Refused("field_malformed", f"{name} holds a line break, which ends it")
    return None


def _content(message: _SnsMessage) -> bytes:
    lines: list[bytes] = []
    for name in _SIGNED[message.Type]:
        value = getattr(message, name)
        if value is not None:
            lines += (name.encode(), value.encode("utf-8", "surrogatepass"))
    return b"\n".join([*lines, b""])


def _names_a_field_twice(body: bytes) -> bool:
    """Return whether an object in the body names a field twice: the application's decoder could
    then use the one that was not signed.
    """
    found = False

    def note(pairs: list[tuple[str, object]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    try:
        json.loads(body, object_pairs_hook=note, parse_int=str)
    except (ValueError, RecursionError):
        return True
    return found
