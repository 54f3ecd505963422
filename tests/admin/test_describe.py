"""A sender in words: what is said of its signature, its time, its ID and its type."""

from __future__ import annotations

import pytest

from hookmill.admin import describe
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec import SignatureSpec

PLAIN = SignatureSpec(signature="header:X-Sig")
"""The body is signed, and nothing else is known of a delivery."""

TIMED = SignatureSpec(
    signature="header:X-Sig", timestamp="header:X-Time", content="{timestamp}.{body}"
)


def with_id(*templates: str, spec: SignatureSpec = PLAIN) -> SignatureSpec:
    return SignatureSpec(
        signature=spec.signature, timestamp=spec.timestamp, content=spec.content, id=templates
    )


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("header:X-Sig", "X-Sig"),
        ("json:data.id", "data.id in the body"),
        ("form:token", "token in the form"),
        ("item:t", "t in the signature's header"),
        ("body", "body"),
    ],
)
def test_a_place_is_named_with_where_it_is(where: str, said: str) -> None:
    assert describe.place(where) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("github", "the body; HMAC-SHA256 in hex, in X-Hub-Signature-256"),
        ("gitlab-token", "nothing: X-Gitlab-Token holds the secret itself"),
        (
            "discord",
            "{timestamp}{body}; Ed25519 in hex, in X-Signature-Ed25519",
        ),
        (
            "twilio",
            (
                "the URL and the form's fields, or the URL that holds the body's hash; "
                "HMAC-SHA1 in base64, in X-Twilio-Signature"
            ),
        ),
    ],
)
def test_what_is_signed_is_said_with_how_and_where(name: str, said: str) -> None:
    assert describe.signed(PRESETS[name].spec) == said


def test_the_age_of_a_delivery_is_limited_only_where_its_time_is_signed() -> None:
    assert describe.timed(PLAIN) == "none is signed: a delivery never gets too old"
    assert describe.timed(TIMED) == "X-Time, at most 5 min in the past or in the future"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (PLAIN, "none: the receiver makes a new one for each delivery"),
        (TIMED, "none: a digest of what is signed (signed)"),
        (with_id("header:X-Id"), "X-Id (not signed)"),
        (
            with_id("json:id", "header:X-Id", "body"),
            "id in the body (signed), else X-Id (not signed), else a digest of the body (signed)",
        ),
        (with_id("{json:shop}-{json:id}"), "{json:shop}-{json:id} (signed)"),
    ],
)
def test_each_source_of_an_id_is_said_with_whether_it_is_signed(
    spec: SignatureSpec, said: str
) -> None:
    assert describe.identified(spec) == said


def test_a_token_signs_no_id() -> None:
    spec = SignatureSpec(
        signature="header:X-Token", algorithm="token", unsigned_body=True, id=("json:id",)
    )
    assert describe.identified(spec) == "id in the body (not signed)"
    assert describe.ids_are_signed(spec) == [False]


def test_the_event_type_is_none_or_each_of_its_places_in_order() -> None:
    typed = SignatureSpec(signature="header:X-Sig", type=("header:X-Event", "json:type"))
    assert describe.typed(PLAIN) == "none"
    assert describe.typed(typed) == "X-Event, else type in the body"


@pytest.mark.parametrize(
    "spec",
    [
        with_id("json:id"),
        with_id("body"),
        TIMED,
        with_id("json:id", spec=TIMED),
    ],
)
def test_where_all_ids_are_signed_a_captured_delivery_is_of_no_use(spec: SignatureSpec) -> None:
    assert describe.replayed(spec) == ""


@pytest.mark.parametrize(
    ("spec", "begins", "ends"),
    [
        (PLAIN, "deliveries have no ID and no signed time", "that runs as well"),
        (
            with_id("header:X-Id"),
            "anyone who captures a delivery can send it again under another ID, for as long",
            "and each runs",
        ),
        (
            with_id("json:id", "header:X-Id"),
            (
                "anyone who captures a delivery can send it again under another ID, if the body "
                "has no signed ID, for as long"
            ),
            "and each runs",
        ),
        (
            with_id("header:X-Id", spec=TIMED),
            "a delivery that was stored cannot be sent again under another ID",
            "until its signed time is 5 min old; the sender's own second try may then run as well",
        ),
    ],
)
def test_what_a_captured_delivery_can_do_is_said_with_its_limits(
    spec: SignatureSpec, begins: str, ends: str
) -> None:
    said = describe.replayed(spec)
    assert said.startswith(begins)
    assert said.endswith(ends)
