"""QStash's token: whatever bytes, claims and headers come, it ends in a verdict."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.signatures import Refused, Verdict, Verified
from hookmill.signatures.qstash import _decode
from tests.signatures.qstash_tokens import CURRENT, HEADER, NEXT, claims, token, verify


def check_refusal(verdict: Verdict) -> None:
    assert isinstance(verdict, Refused)
    assert CURRENT not in verdict.detail
    assert NEXT not in verdict.detail
    verdict.detail.encode()  # it can be logged and sent


@given(value=st.binary() | st.text("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.=-_").map(str.encode))
@settings(deadline=None)
def test_any_bytes_in_the_header_are_refused(value: bytes) -> None:
    check_refusal(verify(value.decode("utf-8", "surrogateescape")))


@given(head=st.binary() | st.just(HEADER), payload=st.binary(), body=st.binary())
@settings(deadline=None)
def test_any_bytes_are_refused_even_under_a_genuine_signature(
    head: bytes, payload: bytes, body: bytes
) -> None:
    check_refusal(verify(token(payload, header=head), body))


JSON_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | JSON_NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    name=st.sampled_from(sorted(claims())),
    value=JSON_VALUES,
    header=st.dictionaries(st.sampled_from(["alg", "typ", "crit", "kid"]), JSON_VALUES),
)
@settings(deadline=None)
def test_any_claim_and_any_header_end_in_a_verdict(
    name: str, value: Any, header: dict[str, Any]
) -> None:
    verdict = verify(token(claims(**{name: value})))
    if isinstance(verdict, Refused):
        check_refusal(verdict)
    head = json.dumps({"alg": "HS256"} | header).encode()
    verdict = verify(token(header=head))
    if header.get("alg", "HS256") != "HS256" or "crit" in header:
        check_refusal(verdict)
    else:
        assert verdict == Verified(0)


spelled = st.one_of(
    st.binary(),
    st.binary().map(base64.urlsafe_b64encode),
    st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")),
    st.from_regex(rb"[A-Za-z0-9_-]{0,9}[=+/ \n]?", fullmatch=True),
)


@given(text=spelled)
def test_a_text_is_read_if_it_is_what_its_bytes_are_written_as(text: bytes) -> None:
    try:
        raw = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        raw = b""
    is_canonical = base64.urlsafe_b64encode(raw).rstrip(b"=") == text
    assert _decode(text) == (raw if is_canonical else None)
