"""Marble's HMAC over time and body: the age of a delivery, and the border between the two."""

from __future__ import annotations

import hmac

import pytest
from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.marble import marble_scheme
from tests.signatures.marble_deliveries import (
    BODY,
    DIGEST,
    NOW,
    PUBLISHED_BODY,
    PUBLISHED_HEADERS,
    SECRET,
    TIMESTAMPED_BODY,
    code_of,
    verify,
)


def timestamped_signature(timestamp: str, body: bytes = BODY) -> str:
    signed = timestamp.encode("utf-8", "surrogateescape") + b"." + body
    return "sha256=" + hmac.digest(SECRET.encode(), signed, "sha256").hex()


def test_the_timestamped_form_signs_the_time_before_the_body() -> None:
    assert verify(TIMESTAMPED_BODY, timestamp="1779460951") == Verified(0)
    assert verify(f"sha256={TIMESTAMPED_BODY}", timestamp="1779460951") == Verified(0)
    refused = verify(DIGEST, timestamp="1779460951")
    assert refused == Refused(
        "signature_mismatch",
        "x-marble-signature is not the HMAC-SHA256 (lower-case hex) of {timestamp}.{body} under "
        "a secret of this source",
    )


def test_where_it_is_asked_for_the_plain_form_is_refused() -> None:
    scheme = marble_scheme([SECRET], with_time=True)
    plain = CIMultiDict({"x-marble-signature": DIGEST})
    assert scheme.verify(Signed(plain, BODY), NOW) == Refused(
        "header_missing", "there is no x-marble-timestamp header"
    )
    # What Marble really sends: a time, yet one that the signature does not cover.
    sent = Signed(CIMultiDict(PUBLISHED_HEADERS), PUBLISHED_BODY)
    assert code_of(scheme.verify(sent, NOW)) == "signature_mismatch"


def test_where_it_is_not_asked_for_the_timestamped_form_is_refused() -> None:
    headers = CIMultiDict(
        {"x-marble-signature": TIMESTAMPED_BODY, "x-marble-timestamp": "1779460951"}
    )
    verdict = marble_scheme([SECRET]).verify(Signed(headers, BODY), NOW)
    assert code_of(verdict) == "signature_mismatch"


@pytest.mark.parametrize(
    ("late_by", "code"),
    [
        (-300.5, "timestamp_too_far"),
        (-300, "verified"),
        (-299.5, "verified"),
        (0, "verified"),
        (299.5, "verified"),
        (300, "verified"),
        (300.5, "timestamp_too_far"),
        (1e9, "timestamp_too_far"),
    ],
)
def test_a_signed_time_may_be_five_minutes_off_in_either_direction(
    late_by: float, code: str
) -> None:
    verdict = verify(TIMESTAMPED_BODY, timestamp="1779460951", now=NOW + late_by)
    assert code_of(verdict) == code


@pytest.mark.parametrize(
    ("late_by", "detail"),
    [(301, "the signed time is 301 s old"), (-301, "the signed time is 301 s ahead")],
)
def test_the_refusal_says_how_far_off_the_time_is(late_by: float, detail: str) -> None:
    verdict = verify(TIMESTAMPED_BODY, timestamp="1779460951", now=NOW + late_by)
    assert verdict == Refused("timestamp_too_far", detail)


@pytest.mark.parametrize(("age", "code"), [(10, "verified"), (11, "timestamp_too_far")])
def test_the_tolerance_can_be_set(age: float, code: str) -> None:
    headers = CIMultiDict(
        {"x-marble-signature": TIMESTAMPED_BODY, "x-marble-timestamp": "1779460951"}
    )
    scheme = marble_scheme([SECRET], with_time=True, tolerance=10)
    assert code_of(scheme.verify(Signed(headers, BODY), NOW + age)) == code


def test_a_replay_with_a_fresh_time_is_refused() -> None:
    assert code_of(verify(TIMESTAMPED_BODY, timestamp="1779460952")) == "signature_mismatch"


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "+1779460951",
        "+5",
        " 5",
        "1779460951 ",
        "1779460951\n",
        "-5",
        "1779460951.0",
        "1779460951.",
        "1_779_460_951",
        "0x6a106757",
        "1.779e9",
        "NaN",
        "١٧٧٩٤٦٠٩٥١",
        "１７７９４６０９５１",  # noqa: RUF001 - full-width digits, on purpose
        "1779460951\u00b2",
        "1779460951\udcff",
        "2026-05-22T14:42:31Z",
        "1" * 17,
        "9" * 5000,  # longer than int() would read
    ],
)
def test_what_is_not_plain_digits_is_refused_even_when_it_is_signed(timestamp: str) -> None:
    verdict = verify(timestamped_signature(timestamp), timestamp=timestamp)
    assert verdict == Refused("timestamp_malformed", "x-marble-timestamp is not Unix seconds")


def test_the_border_between_time_and_body_cannot_be_moved() -> None:
    # A body that begins with digits: the signed bytes are "1779460951.1779460951.x".
    signature = timestamped_signature("1779460951", b"1779460951.x")
    assert verify(signature, b"1779460951.x", timestamp="1779460951") == Verified(0)
    for timestamp, body in [
        ("1779460951.1779460951", b"x"),  # the same signed bytes, divided elsewhere
        ("177946095", b"1.1779460951.x"),
        ("1779460951", b".1779460951.x"),
        ("17794609511", b"779460951.x"),
        ("1779460951.", b"1779460951.x"),
    ]:
        verdict = verify(signature, body, timestamp=timestamp)
        assert code_of(verdict) in {
            "signature_mismatch",
            "timestamp_malformed",
            "timestamp_too_far",
        }, (timestamp, body)


def test_a_digit_moved_across_the_dot_is_refused_while_both_times_are_fresh() -> None:
    # Short enough numbers that only the signature can tell the two apart.
    signature = timestamped_signature("12", b"3.x")
    scheme = marble_scheme([SECRET], with_time=True)
    for timestamp, body, code in [
        ("12", b"3.x", "verified"),
        ("123", b".x", "signature_mismatch"),
        ("1", b"23.x", "signature_mismatch"),
        ("12.3", b"x", "timestamp_malformed"),
        ("012", b"3.x", "timestamp_malformed"),
    ]:
        headers = CIMultiDict({"x-marble-signature": signature, "x-marble-timestamp": timestamp})
        verdict = scheme.verify(Signed(headers, body), 100.0)
        assert code_of(verdict) == code, timestamp


def test_a_second_timestamp_is_refused() -> None:
    headers = CIMultiDict(
        [
            ("x-marble-signature", TIMESTAMPED_BODY),
            ("x-marble-timestamp", "1779460951"),
            ("X-Marble-Timestamp", "1779460951"),
        ]
    )
    verdict = marble_scheme([SECRET], with_time=True).verify(Signed(headers, BODY), NOW)
    assert code_of(verdict) == "header_repeated"
