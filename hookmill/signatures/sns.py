"""Amazon SNS: RSA over some fields of a JSON body, with a certificate that the body says where to
find. What an operator gives as the secrets are the topics that may send.

The published file holds the leaf alone, so its trust comes from the host it was had from over TLS:
SNS' own in the topic's region. A pattern would let in hosts that look alike, such as a bucket
called "sns". Only the named fields are signed, message attributes are not.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from hookmill.errors import SettingsError
from hookmill.signatures.certificates import (
    Allowed,
    Keyring,
    Tell,
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
    Refused,
    Secret,
    Signed,
    Verified,
)

TOLERANCE = 3900.0
"""Seconds a message may be old. It is stamped once, when it is published, and SNS tries for up to
3600 s; five minutes more are for the attempts' own time. A copy within it is a repeat, for the
message ID is signed. A subscription with a throttle may need more.
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

_TOPIC = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{3,32}):[0-9]{12}:([A-Za-z0-9_-]{1,256}(?:\.fifo)?)"
)
_PATH = re.compile(r"/[A-Za-z0-9_-]{1,200}\.pem")
_QUERY = re.compile(r"/\?[A-Za-z0-9_.:=&%-]{1,2000}")
_LINE_BREAK = re.compile(r"[\r\n]")


class _Envelope(msgspec.Struct, frozen=True):
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


class Names(NamedTuple):
    """A message's signed ID, and its type: the topic's name; of what is no notification, SNS'
    own word for it.
    """

    id: str
    type: str


class _Topic(NamedTuple):
    host: str
    region: str
    suffix: str
    name: str


_envelope = msgspec.json.Decoder(_Envelope)


class SNS:
    """Verifies notifications of the given topics (their ARNs). `with_sha1` accepts
    SignatureVersion 1, which a topic uses unless it is told otherwise.

    Raises `SettingsError` where a topic is not written as one.
    """

    def __init__(
        self,
        topics: Sequence[str | Secret],
        *,
        tolerance: float = TOLERANCE,
        with_sha1: bool = True,
    ) -> None:
        self._allowed = Allowed(topics)
        self._topics = {one.text: _topic(one.text) for one in self._allowed.secrets}
        self._tolerance = tolerance
        self._digests = {v: one for v, one in _DIGESTS.items() if with_sha1 or v != "1"}
        self._keys = Keyring()

    @property
    def labels(self) -> list[str]:
        """What is allowed to send, by position."""
        return self._allowed.labels

    def verify(self, delivery: Signed, now: float) -> NetworkVerdict:
        """Judge a delivery. A certificate is asked for only when all else about it is right."""
        return self._judge(delivery, now, None)

    def explain(self, delivery: Signed, now: float, tell: Tell) -> NetworkVerdict:
        """Judge it in the same way, and tell each step."""
        return self._judge(delivery, now, tell)

    def learn(self, url: str, pem: bytes, now: float) -> Refused | None:
        """Remember the certificate that was fetched from `url`, if it is SNS' and counts now."""
        found = certificates_in(pem)
        topic = next((one for one in self._topics.values() if _is_certificate(url, one)), None)
        if topic is None or not found:
            return Refused("certificate_malformed", "there is no certificate where SNS has its own")
        leaf = found[0]
        if not names_of(leaf) & _signers(topic):
            return Refused("certificate_not_theirs", "the certificate is not made out to SNS")
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
        """Return the URL to GET for a verified body that asks whether the subscription is meant."""
        envelope = _read(body)
        if envelope is None or envelope.Type != "SubscriptionConfirmation":
            return None
        topic = self._topics.get(envelope.TopicArn)
        url = envelope.SubscribeURL or ""
        return url if topic and _is_confirmation(url, topic, envelope.TopicArn) else None

    def _judge(self, delivery: Signed, now: float, tell: Tell | None) -> NetworkVerdict:
        envelope = _read(delivery.body)
        if envelope is None:
            return Refused("body_malformed", "the body is not a message of SNS; raw ones have none")
        allowed = self._position(envelope.TopicArn, now)
        if allowed is None:
            return Refused("topic_not_allowed", "the topic is none of those that may send here")
        if refusal := _judge_fields(envelope):
            return refusal
        text = envelope.Timestamp.encode("utf-8", "surrogatepass")
        moment = signed_time(text, "Timestamp", now, self._tolerance, tell)
        if isinstance(moment, Refused):
            return moment
        if refusal := self._judge_places(envelope, delivery.body):
            return refusal
        if verdict := self._judge_signature(envelope, now, tell):
            return verdict
        if _has_repeats(delivery.body):
            return Refused("field_repeated", "the body names a field twice: which one was signed?")
        return Verified(allowed)

    def _position(self, arn: str, now: float) -> int | None:
        given = arn.encode("utf-8", "surrogatepass")
        topics = self._allowed.that_count(now)
        return next((n for n, text in topics if hmac.compare_digest(text, given)), None)

    def _judge_places(self, envelope: _Envelope, body: bytes) -> Refused | None:
        topic = self._topics[envelope.TopicArn]
        if not _is_certificate(envelope.SigningCertURL, topic):
            return Refused(
                "certificate_elsewhere", f"SigningCertURL is no certificate on {topic.host}"
            )
        if envelope.Type == "SubscriptionConfirmation" and not self.confirmation_of(body):
            return Refused("confirmation_elsewhere", f"SubscribeURL is no question of {topic.host}")
        return None

    def _judge_signature(
        self, envelope: _Envelope, now: float, tell: Tell | None
    ) -> Refused | NeedsCertificate | None:
        digest = self._digests.get(envelope.SignatureVersion)
        if digest is None:
            versions = " or ".join(self._digests)
            return Refused("version_unsupported", f"SignatureVersion is not {versions}")
        signature = decode(envelope.Signature.encode("utf-8", "surrogatepass"), "base64")
        if signature is None:
            return Refused("signature_malformed", "Signature is not base64")
        url = envelope.SigningCertURL
        key = self._keys.find(url, now)
        if tell:
            tell(f"certificate: {url}, {'not known yet' if key is None else 'known'}")
        if key is None:
            return NeedsCertificate(url)
        content = _content(envelope)
        if tell:
            tell(f"signed content: {len(content)} bytes, {content[:60]!r} ... {content[-40:]!r}")
        if has_signed(key, content, signature, digest):
            return None
        return Refused(
            "signature_mismatch",
            f"Signature is not the RSA signature ({digest.upper()}) of the message's fields "
            "under the certificate's key",
        )


def names_in(body: bytes) -> Names | None:
    """Return ID and type of a verified body; None for one that cannot have been verified."""
    envelope = _read(body)
    if envelope is None:
        return None
    is_message = envelope.Type == "Notification"
    return Names(
        envelope.MessageId, envelope.TopicArn.rpartition(":")[2] if is_message else envelope.Type
    )


def _topic(arn: str) -> _Topic:
    match = _TOPIC.fullmatch(arn)
    if match is None:
        raise SettingsError(
            ["a secret of an SNS source is no topic: give its ARN, arn:aws:sns:REGION:ACCOUNT:NAME"]
        )
    suffix = "amazonaws.com.cn" if match[1] == "aws-cn" else "amazonaws.com"
    return _Topic(f"sns.{match[2]}.{suffix}", match[2], suffix, match[3])


def _signers(topic: _Topic) -> set[str]:
    """Return the names that SNS' certificates are made out to, which depend on the region."""
    region = "us-gov-west-1" if topic.region.startswith("us-gov-") else topic.region
    names = ("sns", f"sns-{region}", f"sns.{topic.region}", f"sns-signing.{topic.region}")
    return {f"{name}.{topic.suffix}" for name in names}


def _is_certificate(url: str, topic: _Topic) -> bool:
    start = f"https://{topic.host}"
    return url.startswith(start) and bool(_PATH.fullmatch(url, len(start)))


def _is_confirmation(url: str, topic: _Topic, arn: str) -> bool:
    """Say whether a URL asks SNS itself to confirm this topic's subscription, and nothing else."""
    start = f"https://{topic.host}"
    if not url.startswith(start) or not _QUERY.fullmatch(url, len(start)):
        return False
    query = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    asked = dict(query)
    return (
        len(asked) == len(query)
        and asked.keys() == {"Action", "TopicArn", "Token"}
        and (asked["Action"], asked["TopicArn"]) == ("ConfirmSubscription", arn)
    )


def _read(body: bytes) -> _Envelope | None:
    try:
        return _envelope.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _judge_fields(envelope: _Envelope) -> Refused | None:
    """Refuse what leaves open which field a signed byte belongs to: the fields are separated by
    line breaks, and the message alone may hold some.
    """
    names = _SIGNED.get(envelope.Type)
    if names is None:
        return Refused("type_unknown", "Type is none that SNS sends")
    for name in names:
        value = getattr(envelope, name)
        if value is None:
            if name != "Subject":
                return Refused("field_missing", f"there is no {name}")
        elif name != "Message" and _LINE_BREAK.search(value):
            return Refused("field_malformed", f"{name} holds a line break, which ends it")
    return None


def _content(envelope: _Envelope) -> bytes:
    pairs = ((name, getattr(envelope, name)) for name in _SIGNED[envelope.Type])
    lines = (f"{name}\n{value}\n" for name, value in pairs if value is not None)
    return "".join(lines).encode("utf-8", "surrogatepass")


def _has_repeats(body: bytes) -> bool:
    """Say whether any object in the body names a field twice: another decoder than ours might
    then hand on what was not signed.
    """
    repeats = False

    def note(pairs: list[tuple[str, object]]) -> None:
        nonlocal repeats
        repeats = repeats or len({name for name, _ in pairs}) < len(pairs)

    try:
        json.loads(body, object_pairs_hook=note, parse_int=str)
    except (ValueError, RecursionError):
        return True
    return repeats
