"""Deliveries as PayPal signs them, with the authorities that issue its certificate."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from multidict import CIMultiDict

from hookmill.signatures.paypal import ALGORITHM, CERTIFICATE, ID, SIGNATURE, TIME, PayPal
from hookmill.signatures.scheme import NeedsCertificate, NetworkVerdict, Refused, Secret, Signed
from tests.authority import Issuer, rsa_key, signature

NOW = 1_779_460_951.0
SENT = "2026-05-22T14:42:31Z"
WEBHOOK = "9XL90610J3647323C"
TRANSMISSION = "d938e770-8046-11e6-8103-6b62a8a99ac4"
URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
BODY = b'{"id":"WH-9UG43882HX7271132-6E0871324L7949614","event_type":"PAYMENT.SALE.COMPLETED"}'
NAME = "messageverificationcerts.paypal.com"
KEY = rsa_key("paypal")
ROOT = Issuer("Trusted root", NOW)
BETWEEN = Issuer("Intermediate", NOW, ROOT)
CHAIN = BETWEEN.issue([NAME], KEY) + BETWEEN.pem


def headers(body: bytes = BODY, **changes: str) -> CIMultiDict[str]:
    """Sign as PayPal does, whatever stands in the headers."""
    said = {"id": TRANSMISSION, "time": SENT, "webhook": WEBHOOK, "url": URL} | changes
    content = f"{said['id']}|{said['time']}|{said['webhook']}|{zlib.crc32(body)}"
    made = signature(KEY, content.encode("utf-8", "surrogateescape"), SHA256())
    return CIMultiDict(
        {
            ID: said["id"],
            TIME: said["time"],
            SIGNATURE: base64.b64encode(made).decode(),
            CERTIFICATE: said["url"],
            ALGORITHM: "SHA256withRSA",
        }
    )


def scheme(*webhook_ids: str | Secret, **options: Any) -> PayPal:
    made = PayPal(webhook_ids or (WEBHOOK,), ROOT.pem, **options)
    assert made.learn(URL, CHAIN, NOW) is None
    return made


def verify(
    sent: CIMultiDict[str], body: bytes = BODY, now: float = NOW, **options: Any
) -> NetworkVerdict:
    return scheme(**options).verify(Signed(sent, body), now)


def code_of(verdict: NetworkVerdict | None) -> str:
    if isinstance(verdict, NeedsCertificate):
        return "needs_certificate"
    return verdict.code if isinstance(verdict, Refused) else "verified"


def with_crc_of(body: bytes, wanted: bytes) -> bytes:
    """Put four bytes behind a body so that its CRC32 is that of another."""
    table = [zlib.crc32(bytes([n])) ^ zlib.crc32(b"\0") for n in range(256)]
    state, goal = zlib.crc32(body) ^ 0xFFFFFFFF, zlib.crc32(wanted) ^ 0xFFFFFFFF
    steps = []
    for _ in range(4):
        steps.append(next(n for n in range(256) if table[n] >> 24 == goal >> 24))
        goal = ((goal ^ table[steps[-1]]) << 8) & 0xFFFFFFFF
    patch = []
    for step in reversed(steps):
        patch.append((state ^ step) & 0xFF)
        state = (state >> 8) ^ table[step]
    return body + bytes(patch)
