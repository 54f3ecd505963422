"""From a secret's text to the key, and signatures in their one spelling."""

from __future__ import annotations

import base64
import hmac
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

import hookmill.signatures
from hookmill.errors import NotInstalledError, SettingsError
from hookmill.signatures.keys import decode, encode, key_of, matcher
from hookmill.signatures.spec import SignatureSpec
from tests.signatures.senders import ASYMMETRIC, scheme_of, spec_of

RAW = bytes(range(250, 256)) * 4
BASE64 = base64.b64encode(RAW).decode()


def spec(**words: Any) -> SignatureSpec:
    return SignatureSpec(signature="header:X-Signature", **words)


@pytest.mark.parametrize(
    ("words", "text", "key"),
    [
        ({}, "whsec_c2VjcmV0", b"whsec_c2VjcmV0"),
        ({"key_prefix": "whsec_"}, "whsec_c2VjcmV0", b"whsec_c2VjcmV0"),  # text is the whole text
        ({}, "geheimnis-\xfc", b"geheimnis-\xc3\xbc"),
        ({"key": "base64", "key_prefix": "whsec_"}, f"whsec_{BASE64}", RAW),
        ({"key": "base64", "key_prefix": "whsec_"}, BASE64, RAW),
        ({"key": "base64"}, base64.b64encode(RAW[:16]).decode(), RAW[:16]),
        ({"key": "base64"}, base64.b64encode(RAW[:16]).decode().rstrip("="), RAW[:16]),
        ({"key": "hex"}, "c0FFee", b"\xc0\xff\xee"),
        ({"key": "base64-if-prefixed", "key_prefix": "whsec_"}, f"whsec_{BASE64}", RAW),
        ({"key": "base64-if-prefixed", "key_prefix": "whsec_"}, BASE64, BASE64.encode()),
        ({"key": "base64-if-prefixed", "key_prefix": "whsec_"}, "p!ain", b"p!ain"),
    ],
    ids=str,
)
def test_a_secret_becomes_the_key_that_the_sender_uses(
    words: dict[str, Any], text: str, key: bytes
) -> None:
    assert key_of(spec(**words), text) == key


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({}, ""),
        ({}, "hush\udcff"),
        *(
            ({"key": "base64", "key_prefix": "whsec_"}, text)
            for text in ("whsec_", "whsec_hush!", "aGlk-GVu_A==", " aGlk", "aGlkA", "aG=lk")
        ),
        *(({"key": "hex"}, text) for text in ("", "hush", "c0f", "0xc0ff", "\uff10\uff10")),
        ({"key": "base64-if-prefixed", "key_prefix": "whsec_"}, "whsec_"),
    ],
    ids=str,
)
def test_a_secret_that_is_none_is_refused_and_not_shown(words: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        key_of(spec(**words), text)
    rest = text.removeprefix("whsec_")
    assert not rest or rest not in str(caught.value)


@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
@given(raw=st.binary(max_size=80))
def test_what_is_written_is_read_back(encoding: str, raw: bytes) -> None:
    assert decode(encode(raw, encoding), encoding) == raw


@pytest.mark.parametrize("encoding", ["hex", "base64", "base64url"])
@given(text=st.one_of(st.binary(max_size=20), st.from_regex(rb"[A-Za-z0-9+/_=-]{0,12}")))
def test_a_text_is_read_only_in_its_one_spelling(encoding: str, text: bytes) -> None:
    raw = decode(text, encoding)
    assert raw is None or encode(raw, encoding) == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("hex", b"AB"),
        ("hex", b"a b"),
        ("hex", b"abc"),
        ("hex", b"\xff"),
        ("base64", b"YQ"),
        ("base64", b"YR=="),
        ("base64", b"YQ==\n"),
        ("base64", b"-_-_"),
        ("base64url", b"YQ=="),
        ("base64url", b"+/+/"),
    ],
)
def test_another_spelling_is_none(encoding: str, text: bytes) -> None:
    assert decode(text, encoding) is None


@pytest.mark.parametrize(
    ("algorithm", "length"), [("hmac-sha1", 20), ("hmac-sha256", 32), ("hmac-sha512", 64)]
)
def test_each_hmac_has_its_own_digest(algorithm: Any, length: int) -> None:
    digest = hmac.new(b"key", b"content", algorithm.removeprefix("hmac-")).digest()
    assert len(digest) == length
    for encoding in ("hex", "base64", "base64url"):
        matches = matcher(spec(algorithm=algorithm, encoding=encoding), b"key")
        genuine, short = encode(digest, encoding), encode(digest[:-1], encoding)
        assert matches(b"content", [genuine])
        assert matches(b"content", [b"", short, genuine])
        assert not matches(b"content!", [genuine])
        assert not matches(b"content", [short, b"", b"\xff" * 64])
        assert not matches(b"content", [])


def _spki(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("discord", "c0ffee", "an Ed25519 public key has 32 bytes, not 3"),
        ("standard-webhooks-v1a", "whpk_c2VjcmV0", "an Ed25519 public key has 32 bytes, not 6"),
        ("sendgrid", "c2VjcmV0", "the key is not a public key as DER in base64"),
        ("sendgrid", _spki(ec.generate_private_key(ec.SECP384R1())), "the key is not one on the"),
        ("sendgrid", _spki(rsa.generate_private_key(65537, 2048)), "the key is not one on the"),
    ],
)
def test_a_public_key_of_another_kind_does_not_start(name: str, text: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        scheme_of(name, text)


@pytest.mark.parametrize("name", sorted(ASYMMETRIC))
def test_without_the_extra_a_public_key_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hookmill.signatures.asymmetric", None)
    monkeypatch.delattr(hookmill.signatures, "asymmetric", raising=False)
    with pytest.raises(NotInstalledError, match=r"hookmill\[asymmetric\]"):
        scheme_of(name)


@pytest.mark.parametrize("name", ["github", "gitlab-token"])
def test_without_the_extra_the_others_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "hookmill.signatures.asymmetric", None)
    assert scheme_of(name).spec == spec_of(name)
