"""A certificate authority for the tests. It makes root, intermediate and leaf certificates."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = 86_400.0
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the key of that name. It is made only once, because making a key is slow."""
    return rsa.generate_private_key(65537, bits)


@cache
def short_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


class Issuer:
    """A certificate authority: a root, or an intermediate one if it has a `parent`."""

    def __init__(self, name: str, now: float, parent: Issuer | None = None) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._now = now
        signer = parent or self
        self.certificate = (
            _builder(self.name, signer.name, self.key, now - 30 * DAY, now + 300 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(_own_id(self.key), critical=False)
            .add_extension(_issuer_id(signer.key), critical=False)
            .sign(signer.key, SHA256())
        )
        self.pem = self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        names: Sequence[str],
        key: Key,
        *,
        starts: float = -DAY,
        ends: float = 90 * DAY,
        is_client: bool = False,
    ) -> bytes:
        """Make a leaf certificate for these DNS names, as PEM. It is valid from `starts` to `ends`,
        in seconds from now.
        """
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if is_client else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = (
            _builder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]),
                self.name,
                key,
                self._now + starts,
                self._now + ends,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(_own_id(key), critical=False)
            .add_extension(_issuer_id(self.key), critical=False)
            .sign(self.key, SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)


def self_signed(name: str, key: rsa.RSAPrivateKey, now: float) -> bytes:
    """Make a forged certificate: it has the right name, but no authority has signed it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key, now - DAY, now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(_own_id(key), critical=False)
        .add_extension(_issuer_id(key), critical=False)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def damaged(pem: bytes, edits: Sequence[tuple[int, int]]) -> bytes:
    """Replace bytes of a certificate. A place beyond its end continues at its beginning."""
    raw = bytearray(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    for place, byte in edits:
        raw[place % len(raw)] = byte
    body = base64.encodebytes(raw)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def signature(key: rsa.RSAPrivateKey, content: bytes, digest: HashAlgorithm) -> bytes:
    return key.sign(content, PKCS1v15(), digest)


def server_context(folder: Path, chain: bytes, key: Key) -> ssl.SSLContext:
    """Return the TLS context of an HTTPS server with this certificate chain."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(chain + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, starts: float, ends: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(starts, UTC))
        .not_valid_after(datetime.fromtimestamp(ends, UTC))
    )


def _own_id(key: Key) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _issuer_id(key: Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
