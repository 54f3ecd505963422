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
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.fuzz_requests.model import PUBLIC_URL, Ask, Expect

PRESET_NAMES = (
    "contentful", "discord", "dropbox", "github", "gitlab-token", "hubspot", "intercom", "meta",
    "paddle", "sanity", "shopify", "slack", "square", "standard-webhooks", "stripe", "twitch",
    "woocommerce", "zoom",
)  # fmt: skip


class Sender:
    """One configured source, and a sender that signs for it."""

    def __init__(self, name: str, secret: str, sign: Callable[[Signed], Signed] | None) -> None:
        self.name, self.path = name, f"/{name}"
        self.secret = secret
        self.spec = PRESETS[name].spec if name in PRESETS else None
        self.handshake = self.spec.handshake if self.spec else ""
        self.covers_body = self.spec is None or self.spec.covers_body
        self.has_time = self.spec is None or bool(self.spec.timestamp)
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
        return Ask("POST", signed.target, headers, signed.body, expect, key_of(self.name, body))


def key_of(name: str, body: bytes) -> bytes:
    return hashlib.blake2b(b"%b\0%b" % (name.encode(), body), digest_size=12).digest()


def senders() -> list[Sender]:
    """Return all senders of the run, each with its own secret."""
    found = [Sender("qstash", "sig_fuzz_0123456789abcdef", None)]
    for number, name in enumerate(PRESET_NAMES):
        secret = f"{number:02}" + "Zm9yLXRoZS1mdXp6LXJ1bi1hbG9uZS1zZWNy"[: 42 - 2 * (number % 2)]
        sign = None
        if name == "standard-webhooks":
            secret = "whsec_Zm9yLXRoZS1mdXp6LXJ1bi1hbG9uZS1zZWNy"
        if name == "discord":
            try:
                secret, sign = discord_keys()
            except ImportError:
                continue  # the extra that it needs is not installed
        try:
            found.append(Sender(name, secret, sign))
        except SettingsError as error:
            raise AssertionError(f"{name}: {error}") from error
    return found


def discord_keys() -> tuple[str, Callable[[Signed], Signed]]:
    """Return a public key, and a function that signs with its private key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - an extra
        Ed25519PrivateKey,
    )

    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"fuzz").digest())

    def sign(given: Signed) -> Signed:
        moment = str(int(time.time()))
        headers = CIMultiDict(given.headers)
        headers["X-Signature-Timestamp"] = moment
        headers["X-Signature-Ed25519"] = private.sign(moment.encode() + given.body).hex()
        return given._replace(headers=headers)

    return private.public_key().public_bytes_raw().hex(), sign
