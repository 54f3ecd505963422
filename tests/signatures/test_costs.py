"""Before a signature is known to be genuine, no body costs much: whatever it is, and whatever the
scheme. Nothing here looks at a clock; `benchmarks/worst_bodies.py` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed
from hookmill.signatures.qstash import HEADER, QStash
from hookmill.signatures.sns import MAX_BODY
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_rules import faults_of
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.signatures import paypal_deliveries, sns_messages
from tests.signatures.costs import cost_of
from tests.signatures.senders import NOW, TOKENS
from tests.signatures.worst_bodies import (
    ANY_FORMAT,
    LIMIT,
    SECRET,
    bodies_for,
    delivery_for,
    delivery_to,
    makers_for,
    most_for,
    most_signatures,
    scheme_named,
    scheme_names,
)


@pytest.mark.parametrize("name", scheme_names())
def test_no_body_is_dear_before_its_signature_has_matched(name: str) -> None:
    scheme = scheme_named(name)
    for what, body in bodies_for(scheme.spec):
        most = most_for(scheme.spec)
        assert most * 0.9 < len(body) <= most, what
        signed = delivery_to(name, body)
        cost = cost_of(scheme.verify, signed, NOW)
        assert cost.beyond() == [], what
        assert isinstance(cost.verdict, Refused) or name in TOKENS, what


@pytest.mark.parametrize("name", scheme_names())
def test_a_body_is_not_hashed_again_for_each_signature(name: str) -> None:
    signed = most_signatures(name, b"x" * LIMIT)
    assert cost_of(scheme_named(name).verify, signed, NOW).beyond() == []


# --- any scheme that settings can say ---

PLACES = [
    *("json:sig", "json:a", "json:b.c", "json:b.d.e", "json:0.x", "json:l.3.y"),
    *("form:sig", "form:b"),
]
LISTS: list[dict[str, Any]] = [
    {},
    *({"split": one, "pair": "=", "item": "v1"} for one in (",", " ", ", ;|")),
]
FIELDS = [*PLACES, "body", "timestamp", "header:X-Id", "method", "url"]


@st.composite
def specs(draw: st.DrawFn) -> SignatureSpec:
    """Draw a spec that reads some places in the body, as settings can say it."""
    fields = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=8, unique=True))
    spec = SignatureSpec(
        signature=draw(st.sampled_from([*PLACES, "header:X-Signature"])),
        algorithm=draw(st.sampled_from(["hmac-sha1", "hmac-sha256", "hmac-sha512"])),
        content=draw(st.sampled_from([".", "\n", "--"])).join(f"{{{field}}}" for field in fields),
        timestamp=draw(st.sampled_from(["", "header:X-Time", *PLACES])),
        unit=draw(st.sampled_from(["s", "ms", "rfc3339"])),
        unsigned_body=True,
        **draw(st.sampled_from(LISTS)),
    )
    assume(not faults_of(spec))
    return spec


@given(spec=specs(), data=st.data())
@settings(max_examples=60)
def test_no_body_is_dear_to_any_scheme_that_settings_can_say(
    spec: SignatureSpec, data: st.DataObject
) -> None:
    bodies = dict(makers_for(spec))
    what = data.draw(st.sampled_from(sorted(bodies)))
    signed = delivery_for(spec, bodies[what]())
    assert cost_of(SpecVerifier(spec, [SECRET]).verify, signed, NOW).beyond() == []


# --- schemes that are code ---


@pytest.mark.parametrize("what", ANY_FORMAT)
def test_no_body_is_dear_to_a_scheme_that_is_code(what: str) -> None:
    body = ANY_FORMAT[what](LIMIT)
    qstash = QStash([SECRET])
    token = qstash.sign(Signed(CIMultiDict(), b"another body"), NOW).headers[HEADER]
    for scheme, headers in (
        (qstash, CIMultiDict({HEADER: token})),
        (paypal_deliveries.scheme(), paypal_deliveries.headers()),
        (sns_messages.scheme(), CIMultiDict[str]()),
    ):
        signed = Signed(headers, body)
        cost = cost_of(scheme.verify, signed, NOW)
        assert cost.beyond() == []
        assert isinstance(cost.verdict, Refused)


@pytest.mark.parametrize("text", ["x", "\\n", "\\u0041", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("field", ["Message", "Subject", "Signature", "MessageId"])
@pytest.mark.parametrize("ask", [sns_messages.message, sns_messages.question])
def test_no_message_is_dear_to_sns(
    ask: Callable[..., dict[str, Any]], field: str, text: str
) -> None:
    fields = {"Signature": "AAAA", **ask(), field: "HERE"}
    body = json.dumps(fields).encode()
    unit = text.encode()
    # One emoji makes four bytes of each character.
    body = body.replace(b"HERE", "\U0001f600".encode() + unit * ((MAX_BODY - 2_000) // len(unit)))
    signed = sns_messages.delivery(body)
    cost = cost_of(sns_messages.scheme().verify, signed, sns_messages.NOW)
    assert cost.beyond() == []
    assert isinstance(cost.verdict, Refused)
