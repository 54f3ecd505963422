"""QStash's scheme: a JWT (HS256) in `Upstash-Signature` that holds the body's hash.

PyJWT checks the keys; the claims are decoded into a typed struct. The keys are tried first and the
claims are judged afterwards, so that an error in the claims is reported as such, and not as a key
that does not match.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import string
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hmac import compare_digest
from math import ceil

import msgspec
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError
from msgspec import UNSET, Raw, UnsetType
from multidict import CIMultiDict, istr

from hookmill.errors import SettingsError
from hookmill.signatures.keyed_hash import keyed_hash
from hookmill.signatures.scheme import (
    OnStep,
    Refused,
    Secret,
    Signed,
    Verdict,
    Verified,
    only_header,
    secret_bytes,
)

HEADER = istr("Upstash-Signature")  # an istr computes its lower case only once
ISSUER = "Upstash"
LIFETIME = 300
"""Seconds for which the service's tokens are valid."""

DEVELOPMENT_KEYS = ("sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs")
"""The published keys of QStash's development server, of its first user."""

PUBLIC_KEYS = frozenset(
    {
        *DEVELOPMENT_KEYS,
        # Its other users.
        "sig_7GVPjvuwsfqF65iC8fSrs1dfYruM", "sig_5NoELc3EFnZn4DVS5bDs2Nk4b7Ua",
        "sig_6jWGaWRxHsw4vMSPJprXadyvrybF", "sig_7qHbvhmahe5GwfePDiS5Lg3pi6Qx",
        "sig_5T8FcSsynBjn9mMLBsXhpacRovJf", "sig_7GFR4YaDshFcqsxWRZpRB161jguD",
        # The example of its documentation.
        "sig_7RvLjqfZBvP5KEUimQCE1pvpLuou", "sig_7W3ZNbfKWk5NWwEs3U4ixuQ7fxwE",
    }
)  # fmt: skip
"""All published keys: anyone can sign with them."""

_MAX_TOKEN = 8192
_FAR = 2**40
"""The latest time (Unix seconds) until which a token is remembered."""

# From base64url to base64. A character that the first does not allow becomes one that the second
# does not allow.
_ALPHABET = (string.ascii_letters + string.digits).encode() + b"-_"
_TO_STANDARD = bytes(byte if byte in _ALPHABET else ord("!") for byte in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
# By `len % 4`: what is missing at the end of a text in JSON, and the characters that the text may
# end with, because its unused last bits must be zero.
_REST = (b'"', b'==="', b'=="', b'="')
_ENDS = (None, b"", b"AQgw", b"AEIMQUYcgkosw048")

_ALGORITHM = "HS256"
_hs256 = HMACAlgorithm(HMACAlgorithm.SHA256)


class _JoseHeader(msgspec.Struct):
    alg: str
    crit: Raw | UnsetType = UNSET


class _Claims(msgspec.Struct):
    iss: str
    sub: str
    exp: float
    nbf: float
    body: str
    iat: float = 0.0
    aud: Raw = Raw(b'""')
    jti: str | None = None


_jose_header = msgspec.json.Decoder(_JoseHeader)
_claims = msgspec.json.Decoder(_Claims)
_base64_in_json = msgspec.json.Decoder(bytes)
_NO_AUDIENCE = (b'""', b"null", b"[]")

_NO_JWT = Refused("token_malformed", f"{HEADER} does not hold a JWT signed with HS256")


class QStash:
    """Verifies and signs as QStash does.

    `keys` are the current signing key and the next one. `public_url` is the base URL that senders
    were given; with None the token's `sub` is not checked. `tolerance` is the number of seconds
    that the clocks may differ. Raises `SettingsError` if a key is not usable.
    """

    def __init__(
        self,
        keys: Sequence[str | Secret],
        *,
        public_url: str | None = None,
        tolerance: float = 0.0,
    ) -> None:
        self._secrets = [Secret(key) if isinstance(key, str) else key for key in keys]
        self.labels = [one.label_at(position) for position, one in enumerate(self._secrets)]
        """The labels of the keys, by position."""
        self._signers = [_signer(secret.text) for secret in self._secrets]
        self._public_url = public_url.rstrip("/") if public_url else None
        self._tolerance = tolerance
        self._has_windows = any(one.has_window for one in self._secrets)

    def verify(self, delivery: Signed, now: float) -> Verdict:
        """Judge a delivery: first the signature, then the claims."""
        return self._judge(delivery, now, None)

    def explain(self, delivery: Signed, now: float, on_step: OnStep) -> Verdict:
        """Judge a delivery as `verify` does, and explain each step. No key is shown."""
        return self._judge(delivery, now, on_step)

    def _judge(self, delivery: Signed, now: float, on_step: OnStep | None) -> Verdict:
        token = only_header(delivery.headers, HEADER)
        if isinstance(token, Refused):
            return token
        if on_step:
            on_step(f"{HEADER}: a token of {len(token)} bytes")
        found = self._open(token, now)
        if isinstance(found, Refused):
            return found
        claims, key = found
        if on_step:
            label = self._secrets[key].label
            on_step(f"key {key + 1} of {len(self._signers)} made its signature {label}".rstrip())
            for line in self._claims_in_words(claims, delivery, now):
                on_step(line)
        return self._refuse(claims, delivery, now) or self._verified(claims, key)

    def _claims_in_words(self, claims: _Claims, delivery: Signed, now: float) -> Iterator[str]:
        """Explain each claim: whether it is right. More than one may be wrong."""
        right = "as it should be" if claims.iss == ISSUER else f"it should be {ISSUER}"
        yield f"claim iss: {claims.iss!r}, {right}"
        if self._public_url is None:
            yield f"claim sub: {claims.sub!r}, not compared: the URL is not known"
        else:
            does = "the URL" if self._is_for(claims.sub, delivery.target) else "another URL than"
            yield f"claim sub: {claims.sub!r}, {does} {self._public_url}{delivery.target}"
        slack = f"{self._tolerance:g} s are tolerated"
        left = claims.exp - now
        side = f"expires in {left:.0f} s" if left > 0 else f"expired {-left:.0f} s ago"
        yield f"claim exp: {claims.exp:.0f}, {side}; {slack}"
        ahead = max(claims.nbf, claims.iat) - now
        side = f"begins in {ahead:.0f} s" if ahead > 0 else f"began {-ahead:.0f} s ago"
        yield f"claims nbf and iat: {claims.nbf:.0f} and {claims.iat:.0f}, {side}; {slack}"
        is_hash = "the" if _is_hash_of(delivery.body, claims.body) else "not the"
        yield f"claim body: {is_hash} hash of these {len(delivery.body)} bytes"

    def _verified(self, claims: _Claims, key: int) -> Verified:
        """Return the verdict on a genuine token, with the claims that make it unique.

        The claims, not the token's text, because the same claims can be written in many ways.
        Without a `jti`, two different tokens of one second may have the same claims.
        """
        if not claims.jti:
            return Verified(key)
        unique = f"{claims.jti}\0{claims.sub}\0{claims.body.rstrip('=')}\0{claims.exp!r}"
        # It is accepted until `tolerance` seconds later; rounded up to a whole second.
        expires = min(ceil(claims.exp + self._tolerance), _FAR)
        return Verified(key, unique.encode("utf-8", "surrogatepass"), expires)

    def sign(self, delivery: Signed, now: float) -> Signed:
        """Return the delivery with a new token with all claims, signed by the first valid key."""
        valid = (n for n, secret in enumerate(self._secrets) if secret.counts_at(now))
        signature_of = self._signers[next(valid, 0)]
        issued = int(now)
        claims = {
            "aud": "",
            "body": base64.urlsafe_b64encode(hashlib.sha256(delivery.body).digest()).decode(),
            "exp": issued + LIFETIME,
            "iat": issued,
            "iss": ISSUER,
            "jti": f"jwt_{secrets.token_hex(12)}",
            "nbf": issued,
            "sub": (self._public_url or "") + delivery.target,
        }
        head = _encode(msgspec.json.encode({"alg": _ALGORITHM, "typ": "JWT"}))
        signed = head + b"." + _encode(msgspec.json.encode(claims))
        headers = CIMultiDict(delivery.headers)
        headers[HEADER] = (signed + b"." + signature_of(signed)).decode()
        return delivery._replace(headers=headers)

    def _open(self, token: bytes, now: float) -> tuple[_Claims, int] | Refused:
        """Return the claims of a genuine token and the position of the key that signed it."""
        signed, _, signature = token.rpartition(b".")
        head, _, payload = signed.partition(b".")
        if len(token) > _MAX_TOKEN or not _is_hs256(head):
            return _NO_JWT
        position = self._match(signed, signature, now)
        if position is None:
            if _decode(signature) is None:
                return _NO_JWT
            return Refused("signature_mismatch", "no signing key of this source made the signature")
        try:
            return _claims.decode(_decode(payload) or b""), position
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Refused("claims_malformed", f"the token is genuine, its claims are not: {error}")

    def _match(self, signed: bytes, signature: bytes, now: float) -> int | None:
        """Return the position of the key that made a signature, None if none did.

        The texts are compared, in constant time: so only the one canonical spelling is genuine.
        """
        for position, signature_of in enumerate(self._signers):
            if self._has_windows and not self._secrets[position].counts_at(now):
                continue
            if compare_digest(signature_of(signed), signature):
                return position
        return None

    def _refuse(self, claims: _Claims, delivery: Signed, now: float) -> Refused | None:
        """Return what is wrong with the claims of a genuine token, None if nothing is."""
        slack = self._tolerance
        if claims.iss != ISSUER:
            return Refused("wrong_issuer", f"the token's issuer is not {ISSUER}")
        if bytes(claims.aud) not in _NO_AUDIENCE:
            return Refused("wrong_audience", "the token is meant for another audience")
        if claims.exp <= now - slack:
            return Refused("expired", f"the token expired {now - claims.exp:.0f} s ago")
        # The service sends zero or a negative value for "not set".
        latest = now + slack
        if claims.nbf > latest or claims.iat > latest:
            ahead = max(claims.nbf, claims.iat) - now
            return Refused("not_yet_valid", f"the token is valid only in {ahead:.0f} s")
        if self._public_url is not None and not self._is_for(claims.sub, delivery.target):
            return Refused(
                "wrong_url",
                "the token is for another URL than the public URL with the received path and query",
            )
        if not _is_hash_of(delivery.body, claims.body):
            return Refused("body_mismatch", "the body is not the one that was signed")
        return None

    def _is_for(self, subject: str, target: str) -> bool:
        if subject == f"{self._public_url}{target}":
            return True
        # A destination without a path is requested as "/", but `sub` has it as it was written.
        is_bare = target == "/" or target.startswith("/?")
        return is_bare and subject == f"{self._public_url}{target[1:]}"


def _is_hash_of(body: bytes, claim: str) -> bool:
    digest = _encode(hashlib.sha256(body).digest())
    return compare_digest(digest, claim.encode("utf-8", "surrogatepass").rstrip(b"="))


def _signer(key: str) -> Callable[[bytes], bytes]:
    """Return a function that signs with a key: it returns a signature as a token has it."""
    try:
        digest = keyed_hash(_hs256.prepare_key(secret_bytes(key)), "sha256")
    except InvalidKeyError:
        raise SettingsError(
            ["a QStash signing key is a PEM, SSH or JSON key: it must be the sig_... text"]
        ) from None
    return lambda signed: _encode(digest(signed))


@lru_cache(maxsize=64)  # in practice all tokens of a sender have the same header
def _is_hs256(segment: bytes) -> bool:
    try:
        header = _jose_header.decode(_decode(segment) or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    # RFC 7515: a token with an unknown critical extension must be refused.
    return header.alg == _ALGORITHM and header.crit is UNSET


def _encode(raw: bytes) -> bytes:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL_SAFE, b"=")


def _decode(text: bytes) -> bytes | None:
    """Return the decoded base64url text; None unless it is the canonical, unpadded spelling."""
    rest = len(text) % 4
    ends = _ENDS[rest]
    if ends is not None and text[-1] not in ends:
        return None
    try:
        # As a text in JSON, because msgspec takes a third of the time of `binascii`.
        return _base64_in_json.decode(b'"' + text.translate(_TO_STANDARD) + _REST[rest])
    except msgspec.DecodeError:
        return None
