"""Verifies and signs by a `SignatureSpec`, for every sender whose scheme is data.

The signature is checked first. Nothing reads the body before it has matched, unless the signature
itself is in the body.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hookmill.errors import SettingsError
from hookmill.signatures import times
from hookmill.signatures.content import FoundSignatures, SpecReader
from hookmill.signatures.keys import Matches, key_of, matcher
from hookmill.signatures.scheme import (
    OnStep,
    Refused,
    Secret,
    Signed,
    Verdict,
    Verified,
)
from hookmill.signatures.signing import sign
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_rules import faults_of

_ENCODINGS = {"hex": "lower-case hex", "base64": "base64", "base64url": "unpadded base64url"}


class _VerifyingKey(NamedTuple):
    secret: Secret
    matches: Matches


class _SignedTime(msgspec.Struct, frozen=True):
    """A signed time: as Unix seconds, and as the text that the delivery holds."""

    moment: float
    text: bytes


_NO_TIME = _SignedTime(0.0, b"")
"""Used if there is no signed time, and before it is known."""


class SpecVerifier:
    """The scheme of one source: a spec, and the secrets it accepts. The first secret signs.

    With `at_any_time` every signed time is accepted, for a delivery that was captured long ago.
    Raises `SettingsError` if the spec is unsafe or a secret is not usable.
    """

    def __init__(
        self, spec: SignatureSpec, secrets: Sequence[str | Secret], *, at_any_time: bool = False
    ) -> None:
        if faults := faults_of(spec):
            raise SettingsError(faults)
        self.spec = spec
        self._secrets = [Secret(one) if isinstance(one, str) else one for one in secrets]
        self._keys = [
            _VerifyingKey(one, matcher(spec, key_of(spec, one.text))) for one in self._secrets
        ]
        self.labels = [one.label_at(position) for position, one in enumerate(self._secrets)]
        """The labels of the secrets, by position."""
        self._has_windows = any(one.has_window for one in self._secrets)
        self._reader = SpecReader(spec)
        self._tolerance = math.inf if at_any_time else spec.tolerance
        # A time in a signed body is read only when the body is known to be genuine.
        self._time_is_in_body = (
            spec.timestamp.startswith(("json:", "form:")) and "{timestamp}" not in spec.content
        )
        self._time_comes_first = bool(spec.timestamp) and not self._time_is_in_body
        # If the content holds the ID, every delivery has a signed ID and needs no other protection.
        has_own_time = bool(spec.timestamp) and "{id}" not in spec.content
        self._is_single_use = bool(spec.single_use) or has_own_time

    def verify(self, delivery: Signed, now: float) -> Verdict:
        """Judge a delivery: its signature, and whether its signed time is close to `now`."""
        return self._judge(delivery, now, None)

    def explain(self, delivery: Signed, now: float, on_step: OnStep) -> Verdict:
        """Judge a delivery as `verify` does, and explain each step. No secret is shown."""
        return self._judge(delivery, now, on_step)

    def sign(self, delivery: Signed, now: float) -> Signed:
        """Return the delivery as the sender would send it, signed with the first valid secret.

        Raises `SettingsError` if only the sender has the key to sign with.
        """
        secret = next((one for one in self._secrets if one.counts_at(now)), self._secrets[0])
        return sign(self._reader, secret, delivery, now)

    def answer_with(self, position: int, text: str) -> str:
        """Return the HMAC of a text in hex, made with the secret that `Verified` named by position.

        Zoom asks for it, to see that we know the secret. Call this for verified requests only:
        otherwise anybody could have a text of their choice signed.
        """
        key = key_of(self.spec, self._secrets[position].text)
        return hmac.digest(key, text.encode(), self.spec.algorithm.removeprefix("hmac-")).hex()

    def _judge(self, delivery: Signed, now: float, on_step: OnStep | None) -> Verdict:
        found = self._reader.signatures(delivery)
        if isinstance(found, Refused):
            return found
        if on_step:
            on_step(f"{self._reader.name}: {len(found.signatures)} signature(s) to compare with")
        first = self._time_comes_first
        time = self._time(delivery, found, now, on_step) if first else _NO_TIME
        if isinstance(time, Refused):
            return time
        contents = self._reader.contents(delivery, found, time.text)
        if isinstance(contents, Refused):
            return contents
        matched = self._match(contents, found.signatures, now)
        if on_step:
            self._explain_match(contents, matched, now, on_step)
        if matched is None:
            return self._mismatch()
        if self._time_is_in_body:
            time = self._time(delivery, found, now, on_step)
            if isinstance(time, Refused):
                return time
        if not self._is_single_use:
            return Verified(matched)
        expires = math.ceil(time.moment + self.spec.tolerance)
        return Verified(matched, self._single_use(delivery, found, contents[0]), expires)

    def _time(
        self, delivery: Signed, found: FoundSignatures, now: float, on_step: OnStep | None
    ) -> _SignedTime | Refused:
        """Return the signed time. Refuses one that is too far from `now`."""
        spec = self.spec
        text = self._reader.find_time(delivery, found, b"")
        if isinstance(text, Refused):
            return text
        moment = times.read(text, spec.unit)
        if moment is None:
            name = spec.timestamp.partition(":")[2]
            return Refused("timestamp_malformed", f"{name} is not {times.NAMES[spec.unit]}")
        age = now - moment
        if on_step:
            on_step(
                f"signed time: {text.decode('ascii')} ({times.NAMES[spec.unit]}), "
                f"{_in_words(age)}; {spec.tolerance:g} s are tolerated"
            )
        if abs(age) > self._tolerance:
            return Refused("timestamp_too_far", f"the signed time is {_in_words(age)}")
        return _SignedTime(moment, text)

    def _match(self, contents: list[bytes], signatures: list[bytes], now: float) -> int | None:
        """Return the position of the secret that made one of the signatures, None if none did."""
        for position, (secret, matches) in enumerate(self._keys):
            if self._has_windows and not secret.counts_at(now):
                continue
            for content in contents:
                if matches(content, signatures):
                    return position
        return None

    def _explain_match(
        self, contents: list[bytes], matched: int | None, now: float, on_step: OnStep
    ) -> None:
        if self.spec.content:
            for content in contents:
                on_step(f"signed content, {self.spec.content}: {_excerpt(content)}")
        for position, (secret, _) in enumerate(self._keys):
            is_valid, does = secret.counts_at(now), position == matched
            what = "matches" if does else "does not match" if is_valid else "is not valid now"
            on_step(f"secret {position + 1} of {len(self._keys)} {what} {secret.label}".rstrip())
            if does:
                return

    def _mismatch(self) -> Refused:
        spec, name = self.spec, self._reader.name
        if spec.algorithm == "token":
            return Refused("signature_mismatch", f"{name} is no secret of this source")
        content = "the body" if spec.content == "{body}" else spec.content
        names = {"ed25519": "Ed25519 signature", "ecdsa-p256": "ECDSA signature"}
        kind = names.get(spec.algorithm, spec.algorithm.upper())
        return Refused(
            "signature_mismatch",
            f"{name} is not the {kind} ({_ENCODINGS[spec.encoding]}) of {content} under "
            "a secret of this source",
        )

    def _single_use(self, delivery: Signed, found: FoundSignatures, content: bytes) -> bytes | None:
        """Return the bytes that must not be accepted again with another message ID."""
        find = self._reader.find_single_use
        value = find(delivery, found, b"") if find else content
        return None if isinstance(value, Refused) else value


def _in_words(age: float) -> str:
    return f"{abs(age):.0f} s {'old' if age > 0 else 'ahead'}"


def _excerpt(content: bytes) -> str:
    """Return a content's length, its beginning and its end."""
    shown = f"{content!r}" if len(content) <= 120 else f"{content[:60]!r} ... {content[-40:]!r}"
    return f"{len(content)} bytes, {shown}"
