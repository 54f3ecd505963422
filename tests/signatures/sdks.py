"""The senders' own SDKs, each with one way to sign and one to verify."""

from __future__ import annotations

import hashlib
import time
from typing import Protocol
from urllib.parse import parse_qsl

from multidict import MultiDict
from twilio.request_validator import RequestValidator

from hookmill.signatures import Signed, Verified
from tests.signatures.senders import delivery, scheme_of

EVENT = b'{"id":"evt_1","object":"event","type":"order.paid"}'
FORM = b"token=t&command=%2Fweather&text=94070"
URL = "https://app.example/hook"


class Sdk(Protocol):
    """A sender's library: it signs a delivery, or says whether it accepts one."""

    name: str
    secret: str

    def sign(self, body: bytes, now: float) -> Signed: ...

    def accepts(self, signed: Signed, secret: str) -> bool: ...


class Twilio:
    """twilio's RequestValidator, given what its documentation says to give it."""

    name = "twilio"
    secret = "12345678901234567890123456789012"

    def sign(self, body: bytes, now: float) -> Signed:
        del now
        validator = RequestValidator(self.secret)
        if body.startswith(b"{"):
            target = f"/hook?bodySHA256={hashlib.sha256(body).hexdigest()}"
            text = validator.compute_signature("https://app.example" + target, {})
            kind = "application/json"
        else:
            target = "/hook"
            text = validator.compute_signature(URL, MultiDict(parse_qsl(body.decode(), True)))
            kind = "application/x-www-form-urlencoded"
        headers = {"X-Twilio-Signature": text, "Content-Type": kind}
        return delivery(body, headers, target, URL)

    def accepts(self, signed: Signed, secret: str) -> bool:
        is_form = "form" in signed.headers.get("Content-Type", "")
        try:
            text = signed.body.decode()
        except UnicodeDecodeError:
            return False
        given = MultiDict(parse_qsl(text, True)) if is_form else text
        url = URL if is_form else "https://app.example" + signed.target
        signature = signed.headers.get("X-Twilio-Signature", "")
        try:
            return bool(RequestValidator(secret).validate(url, given, signature))
        except (TypeError, AttributeError):
            return False  # a body that is no form, to a URL without its hash


def ours(sdk: Sdk, signed: Signed, secret: str | None = None) -> bool:
    scheme = scheme_of(sdk.name, sdk.secret if secret is None else secret)
    return isinstance(scheme.verify(signed, time.time()), Verified)
