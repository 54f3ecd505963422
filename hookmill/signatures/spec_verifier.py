"""Verifies and signs by a `Shape`: one way for every sender whose scheme is data.

The signature comes first; nothing else looks at the body before it has matched, unless the shape
says that the signature itself stands in the body.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from hookmill.errors import SettingsError
from hookmill.signatures import times
from hookmill.signatures.content import Reader, Reading
from hookmill.signatures.keys import Matches, key_of, matcher
from hookmill.signatures.scheme import (
    Refused,
    Secret,
    Signed,
    Verdict,
    Verified,
)
from hookmill.signatures.signing import sign
from hookmill.signatures.spec import SignatureSpec, faults_of

Tell = Callable[[str], None]
"""Takes a line that explains a step."""

_ENCODINGS = {"hex": "lower-case hex", "base64": "base64", "base64url": "unpadded base64url"}


class _Key(NamedTuple):
    secret: Secret
    matches: Matches


class _Time(msgspec.Struct, frozen=True):
    """A signed time, as Unix seconds and as it is written."""

    moment: float
    text: bytes


_NO_TIME = _Time(0.0, b"")
"""Stands for a signed time where there is none, or as long as it is not known."""


class SpecVerifier:
    """One source's scheme: a shape and the secrets it accepts, the first of which signs. With
    `at_any_time` the signed time may be any, as for a delivery that was captured long ago.

    Raises `SettingsError` where the shape is unsafe or a secret is not usable.
    """

    def __init__(
        self, spec: SignatureSpec, secrets: Sequence[str | Secret], *, at_any_time: bool = False
    ) -> None:
        if faults := faults_of(spec):
            raise SettingsError(faults)
        self.spec = spec
        self._secrets = [Secret(one) if isinstance(one, str) else one for one in secrets]
        self._keys = [_Key(one, matcher(spec, key_of(spec, one.text))) for one in self._secrets]
        self.labels = [one.called(position) for position, one in enumerate(self._secrets)]
        """What the secrets are called, by position."""
        self._has_windows = any(one.has_window for one in self._secrets)
        self._reader = Reader(spec)
        self._tolerance = math.inf if at_any_time else spec.tolerance
        # A time in a signed body is read when the body is known to be genuine.
        self._time_is_in_body = (
            spec.timestamp.startswith(("json:", "form:")) and "{timestamp}" not in spec.content
        )
        self._time_comes_first = bool(spec.timestamp) and not self._time_is_in_body
        # Where the ID is a part of what is signed, no delivery is without one.
        has_own_time = bool(spec.timestamp) and "{id}" not in spec.content
        self._is_single_use = bool(spec.single_use) or has_own_time

    def verify(self, delivery: Signed, now: float) -> Verdict:
        """Judge a delivery: the signature, and whether its signed time is near."""
        return self._judge(delivery, now, None)

    def explain(self, delivery: Signed, now: float, tell: Tell) -> Verdict:
        """Judge it in the same way, and tell each step. No secret is told."""
        return self._judge(delivery, now, tell)

    def sign(self, delivery: Signed, now: float) -> Signed:
        """Make the delivery as the sender would, with the first secret that counts.

        Raises `SettingsError` where only the sender has the key to sign with.
        """
        secret = next((one for one in self._secrets if one.counts_at(now)), self._secrets[0])
        return sign(self._reader, secret, delivery, now)

    def answer_with(self, position: int, text: str) -> str:
        """Write a text's HMAC in hex, under the secret at a position that `Verified` named.

        A sender that asks whether we know its secret (Zoom) gets this, so that the secret itself
        need not leave. Only for verified requests: whoever may choose the text without them can
        have deliveries signed.
        """
        key = key_of(self.spec, self._secrets[position].text)
        return hmac.digest(key, text.encode(), self.spec.algorithm.removeprefix("hmac-")).hex()

    def _judge(self, delivery: Signed, now: float, tell: Tell | None) -> Verdict:
        reading = self._reader.signatures(delivery)
        if isinstance(reading, Refused):
            return reading
        if tell:
            tell(f"{self._reader.name}: {len(reading.candidates)} signature(s) to compare with")
        first = self._time_comes_first
        time = self._time(delivery, reading, now, tell) if first else _NO_TIME
        if isinstance(time, Refused):
            return time
        contents = self._reader.contents(delivery, reading, time.text)
        if isinstance(contents, Refused):
            return contents
        matched = self._match(contents, reading.candidates, now)
        if tell:
            self._tell_match(contents, matched, now, tell)
        if matched is None:
            return self._mismatch()
        if self._time_is_in_body:
            time = self._time(delivery, reading, now, tell)
            if isinstance(time, Refused):
                return time
        if not self._is_single_use:
            return Verified(matched)
        expires = math.ceil(time.moment + self.spec.tolerance)
        return Verified(matched, self._said(delivery, reading, contents[0]), expires)

    def _time(
        self, delivery: Signed, reading: Reading, now: float, tell: Tell | None
    ) -> _Time | Refused:
        """Return the signed time, if it is near."""
        spec = self.spec
        text = self._reader.find_time(delivery, reading, b"")
        if isinstance(text, Refused):
            return text
        moment = times.read(text, spec.unit)
        if moment is None:
            name = spec.timestamp.partition(":")[2]
            return Refused("timestamp_malformed", f"{name} is not {times.NAMES[spec.unit]}")
        age = now - moment
        if tell:
            tell(
                f"signed time: {text.decode('ascii')} ({times.NAMES[spec.unit]}), "
                f"{_in_words(age)}; {spec.tolerance:g} s are tolerated"
            )
        if abs(age) > self._tolerance:
            return Refused("timestamp_too_far", f"the signed time is {_in_words(age)}")
        return _Time(moment, text)

    def _match(self, contents: list[bytes], candidates: list[bytes], now: float) -> int | None:
        """Return the position of the secret that made one of the signatures."""
        for position, (secret, matches) in enumerate(self._keys):
            if self._has_windows and not secret.counts_at(now):
                continue
            for content in contents:
                if matches(content, candidates):
                    return position
        return None

    def _tell_match(
        self, contents: list[bytes], matched: int | None, now: float, tell: Tell
    ) -> None:
        if self.spec.content:
            for content in contents:
                tell(f"signed content, {self.spec.content}: {_excerpt(content)}")
        for position, (secret, _) in enumerate(self._keys):
            counts, does = secret.counts_at(now), position == matched
            what = "matches" if does else "does not match" if counts else "does not count now"
            tell(f"secret {position + 1} of {len(self._keys)} {what} {secret.label}".rstrip())
            if does:
                return

    def _mismatch(self) -> Refused:
        spec, name, number = self.spec, self._reader.name, len(self._keys)
        if spec.algorithm == "token":
            return Refused("signature_mismatch", f"{name} is none of the {number} secrets")
        content = "the body" if spec.content == "{body}" else spec.content
        names = {"ed25519": "Ed25519 signature", "ecdsa-p256": "ECDSA signature"}
        kind = names.get(spec.algorithm, spec.algorithm.upper())
        return Refused(
            "signature_mismatch",
            f"{name} is not the {kind} ({_ENCODINGS[spec.encoding]}) of {content} under "
            f"any of the {number} secrets",
        )

    def _said(self, delivery: Signed, reading: Reading, content: bytes) -> bytes | None:
        """Return what must not come again with another message ID."""
        find = self._reader.find_single_use
        said = find(delivery, reading, b"") if find else content
        return None if isinstance(said, Refused) else said


def _in_words(age: float) -> str:
    return f"{abs(age):.0f} s {'old' if age > 0 else 'ahead'}"


def _excerpt(content: bytes) -> str:
    """Show how long a content is, and how it begins and ends."""
    shown = f"{content!r}" if len(content) <= 120 else f"{content[:60]!r} ... {content[-40:]!r}"
    return f"{len(content)} bytes, {shown}"
