"""Deliveries as their senders make them, and the report on them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from multidict import CIMultiDict

from hookmill.debug.diagnose import Report, verify
from hookmill.debug.hypotheses import Case
from hookmill.signatures import Secret, Signed
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec_verifier import SpecVerifier

NOW = 1_779_460_951.0
SECRET = "a-secret-of-some-length"
KEY = b"~~~>>>???0123456789abcde"  # its base64 has a + and a /
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
BODY = b'{"a":1,"b":[2,3],"c":"\xc3\xa9/"}'
URL = "https://app.example/hook"


def signed(name: str, secret: str, body: bytes = BODY, url: str = URL, **words: Any) -> Signed:
    """What the sender makes."""
    spec = msgspec.structs.replace(PRESETS[name].spec, **words)
    return SpecVerifier(spec, [secret]).sign(Signed(CIMultiDict(), body, "/hook", url=url), NOW)


def judged(
    name: str, delivery: Signed, *secrets: str | Secret, now: float = NOW, **words: Any
) -> Report:
    spec = msgspec.structs.replace(PRESETS[name].spec, **words)
    given = tuple(Secret(one) if isinstance(one, str) else one for one in secrets)
    return verify(Case(name, name, spec, given, delivery), now)


def qstash(delivery: Signed, *secrets: str, now: float = NOW) -> Report:
    return verify(Case("qstash", "qstash", None, tuple(map(Secret, secrets)), delivery), now)


def from_qstash(body: bytes = BODY) -> Signed:
    delivery = Signed(CIMultiDict(), body, "/hook", url=URL)
    return QStash([SECRET], public_url="https://app.example").sign(delivery, NOW)


def spelled(header: str, change: Callable[[str], str]) -> Callable[[Signed], Signed]:
    """Change how a header of a delivery is written."""

    def changed(delivery: Signed) -> Signed:
        headers = CIMultiDict(delivery.headers)
        headers[header] = change(headers[header])
        return delivery._replace(headers=headers)

    return changed
