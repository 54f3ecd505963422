"""Handshakes of any form: a bounded answer, or none, and never one that needed a token."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.sources import Source
from hookmill.signatures import Signed, Verified
from receiver.handshake import MAX_TEXT, reply_to_request, reply_to_verified
from receiver.responses import Refusal, Reply
from tests.receiver.handshakes import (
    CALLBACK,
    DISCORD,
    META,
    SLACK,
    SOURCES,
    TOKEN,
    VERIFY_TOKEN,
    ZOOM,
    content_type,
)

NAMES = st.sampled_from(
    ["hub.mode", "hub.challenge", "hub.verify_token", "challenge", "CHALLENGE", ""]
)
VALUES = st.text(max_size=20) | st.sampled_from(["subscribe", TOKEN, VERIFY_TOKEN, "%ff", "%0a"])
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(
    lambda fields: "&".join(f"{name}={value}" for name, value in fields)
)
TARGETS = st.text() | QUERIES.map(lambda query: f"/x?{query}")
# Also surrogates, because aiohttp decodes bytes that are not UTF-8 to them.
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(
    source=st.sampled_from(SOURCES),
    method=st.sampled_from(["GET", "HEAD"]) | st.text(),
    target=TARGETS | ANY_TEXT.map(lambda text: f"/x?challenge={text}"),
)
@example(META, "GET", "/x?hub.verify_token=\ud800")
def test_any_handshake_is_answered_with_plain_short_text_or_refused(
    source: Source, method: str, target: str
) -> None:
    answered = reply_to_request(source, method, target)
    if isinstance(answered, Refusal):
        assert answered.status in {400, 403, 405}
        assert len(answered.detail) < 100
        return
    assert (answered.status, content_type(answered)) == (200, "text/plain")
    assert len(answered.body) <= MAX_TEXT
    assert all(0x20 <= byte < 0x7F for byte in answered.body)


@given(query=QUERIES | ANY_TEXT)
def test_meta_is_never_answered_without_its_token(query: str) -> None:
    answered = reply_to_request(META, "GET", f"/meta?{query}")
    if isinstance(answered, Reply):
        assert f"hub.verify_token={TOKEN}" in query or f"hub.verify_token={VERIFY_TOKEN}" in query
    else:
        assert answered.status in {400, 403}


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(["url_verification", "x" * 2000, 0, 1]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "challenge", "event", "payload", "plainToken", "x"]), inner
        )
    ),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=100)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda fields, value: json.dumps({**fields, **value}).encode(),
        st.sampled_from(
            [
                {"type": "url_verification"},
                {"event": "endpoint.url_validation"},
                {"type": 1},
                {"type": 0},
            ]
        ),
        st.dictionaries(st.sampled_from(["challenge", "payload", "event"]), JSON_VALUES),
    )
)


@given(
    source=st.sampled_from(SOURCES),
    body=BODIES,
    kind=st.sampled_from(["", "notification", *CALLBACK.values()]) | ANY_TEXT,
)
@example(SLACK, b"[" * 100_000, "")
@example(ZOOM, b'{"event":' * 100_000, "")
@example(DISCORD, b'{"type":' + b"9" * 100_000 + b"}", "")
def test_any_delivery_gets_a_bounded_answer_or_is_a_message(
    source: Source, body: bytes, kind: str
) -> None:
    headers = CIMultiDict({"Twitch-Eventsub-Message-Type": kind} if kind else {})
    answered = reply_to_verified(source, Signed(headers, body), Verified(0))
    if isinstance(answered, Reply):
        assert answered.status in {200, 204}
        assert len(answered.body) < 2 * MAX_TEXT + 200
        assert all(0x20 <= byte < 0x7F for byte in answered.body)
    elif answered is not None:
        assert isinstance(answered, Refusal)
        assert answered.status in {400, 401}
