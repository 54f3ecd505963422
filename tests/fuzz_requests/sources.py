"""The sources of the fuzz run, each with a sender that signs for it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures import Scheme, Signed
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.fuzz_requests.model import PUBLIC_URL, Ask, Expect


class Sender:
    """One configured source, and a sender that signs for it."""

    def __init__(self, name: str, secret: str, sign: Callable[[Signed], Signed] | None) -> None:
        self.name, self.path = name, f"/{name}"
        self.secret = secret
        self.spec = PRESETS[name].spec if name in PRESETS else None
        self.handshake = self.spec.handshake if self.spec else ""
        self.covers_body = self.spec is None or self.spec.covers_body
        self.is_body_exact = self.covers_body and name != "twilio"
        """Whether one body alone fits a signature: Twilio's form can be escaped in many ways."""
        self.has_time = self.spec is None or bool(self.spec.timestamp)
        self.tolerance = self.spec.tolerance if self.spec else 300.0
        self.has_own_key = sign is not None
        place = self.spec.signature if self.spec else "header:Upstash-Signature"
        self.signature = place.removeprefix("header:").encode()
        self._sign = sign
        self._scheme = self._scheme_of(secret)
        self._strange = self._scheme_of("c3RyYW5nZS1zZWNyZXQtb2Ytbm9ib2R5LWhlcmU=")

    def _scheme_of(self, secret: str) -> Scheme | None:
        if self.spec is None:
            return QStash([secret], public_url=PUBLIC_URL)
        return None if self._sign else SpecVerifier(self.spec, [secret])

    def delivery(
        self,
        body: bytes,
        expect: Expect = Expect.ACCEPTED,
        *,
        off: float = 0.0,
        strange: bool = False,
        more: dict[str, str] | None = None,
    ) -> Ask:
        """Make a signed delivery. Its time is wrong by `off` seconds. `strange`: it is signed with
        a secret that the receiver does not know.
        """
        given = Signed(CIMultiDict(more or {}), body, self.path, url=PUBLIC_URL + self.path)
        if self._sign is not None:
            signed = self._sign(given)
        else:
            scheme = self._strange if strange else self._scheme
            assert scheme is not None
            signed = scheme.sign(given, time.time() + off)
        headers = tuple(
            (name.encode(), value.encode("utf-8", "surrogateescape"))
            for name, value in signed.headers.items()
        )
        key = key_of(self.name, signed.body)  # some senders put time or signature into the body
        return Ask("POST", signed.target, headers, signed.body, expect, key)


def key_of(name: str, body: bytes) -> bytes:
    return hashlib.blake2b(b"%b\0%b" % (name.encode(), body), digest_size=12).digest()


def senders() -> list[Sender]:
    """Return a sender of each preset that signs without a certificate, each with its own secret."""
    found = [Sender("qstash", "sig_fuzz_0123456789abcdef", None)]
    for number, (name, preset) in enumerate(PRESETS.items()):
        secret = f"{number:02}" + "Zm9yLXRoZS1mdXp6LXJ1bi1hbG9uZS1zZWNy"[: 42 - 2 * (number % 2)]
        sign = None
        if preset.spec.key.startswith("base64"):
            secret = f"whsec_{secret[:36]}"
        if preset.spec.algorithm in {"ed25519", "ecdsa-p256"}:
            try:
                secret, sign = key_pair(preset.spec)
            except ImportError:
                continue  # the extra that it needs is not installed
        try:
            found.append(Sender(name, secret, sign))
        except SettingsError as error:
            raise AssertionError(f"{name}: {error}") from error
    return found


def key_pair(spec: SignatureSpec) -> tuple[str, Callable[[Signed], Signed]]:
    """Return a public key as this sender shows it, and what signs with its private key."""
    from tests.signatures.senders import (  # noqa: PLC0415 - an extra
        ASYMMETRIC,
        signed_by,
    )

    (pair,) = [pair for name, pair in ASYMMETRIC.items() if PRESETS[name].spec is spec]
    return pair.public, lambda given: signed_by(spec, pair.sign, given, time.time())
