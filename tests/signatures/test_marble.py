"""Marble's HMAC: the plain form over the body, and the timestamped form over time and body."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures import Refused, Signed, Verdict, Verified
from hookmill.signatures.marble import marble_scheme

SECRET = "marble_test_secret"
OTHER = "marble_other_secret"
NOW = 1_779_460_951.0

BODY = b'{"a":1}'
DIGEST = "f833661b5df3d3535cbbea061af84e3b4b461a975a5a7bd16ab3d441fa6a81b4"
# The same body behind "1779460951."
TIMESTAMPED_BODY = "cbf26d6e0b6caf90a6d78c8f0a11720a62fceb846e1c9a196f892e90b4b269a4"

# What the sender's own signing code made of a body modelled on its documentation.
PUBLISHED_BODY = (
    '{"id":"evt_cmf3d1gsv11469tlkp53bcutv","type":"post.published",'
    '"createdAt":"2026-05-22T14:42:31.120Z","workspaceId":"org_cms96emp70001l60415sft0i5",'
    '"resource":{"type":"post","id":"post_cmf3d1gsv11469tlkp53bcutv"},'
    '"actor":{"type":"api_key","id":"key_cmf3cp0nz0001l604a8c7h2sc"},'
    '"data":{"id":"post_cmf3d1gsv11469tlkp53bcutv",'
    '"title":"Getting Started with Marble CMS \N{EN DASH} é",'
    '"slug":"getting-started-with-marble","status":"published"}}'
).encode()
PUBLISHED_HEADERS = {
    "x-marble-signature": "sha256=5eeb5ee9e02c59af916c95521536661a16036bf93816d5aa03bc8282a4fc1eaf",
    "x-marble-event": "post.published",
    "x-marble-event-id": "evt_cmf3d1gsv11469tlkp53bcutv",
    "x-marble-delivery-id": "whd_test",
    "x-marble-timestamp": "1779460951",
}


def verify(
    signature: str,
    body: bytes = BODY,
    *,
    secrets: tuple[str, ...] = (SECRET,),
    timestamp: str | None = None,
    now: float = NOW,
) -> Verdict:
    """Judge a delivery; one with a timestamp by a source that asks for the timestamped form."""
    headers = CIMultiDict({"x-marble-signature": signature})
    if timestamp is not None:
        headers["x-marble-timestamp"] = timestamp
    return marble_scheme(secrets, with_time=timestamp is not None).verify(
        Signed(headers, body), now
    )


def code_of(verdict: Verdict) -> str:
    return verdict.code if isinstance(verdict, Refused) else "verified"


def timestamped_signature(timestamp: str, body: bytes = BODY) -> str:
    signed = timestamp.encode("utf-8", "surrogateescape") + b"." + body
    return "sha256=" + hmac.digest(SECRET.encode(), signed, "sha256").hex()


# --- the plain form ---


def test_the_senders_own_output_verifies() -> None:
    delivery = Signed(CIMultiDict(PUBLISHED_HEADERS), PUBLISHED_BODY)
    # The time it carries is not signed, so it is not judged either: years later is as good.
    assert marble_scheme([SECRET]).verify(delivery, NOW) == Verified(0)
    assert marble_scheme([SECRET]).verify(delivery, NOW * 2) == Verified(0)


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (
            b"",
            "f26a3bad57655a4ddfff275b9aadad76f1de8507fad86ac2d70f76a1b10deb19",
        ),
        (BODY, DIGEST),
        (
            b'{"event":"post.updated","data":{"id":"p","slug":"s","title":"t","userId":"u"}}',
            "9a0489e0824a40b7c3ed38dbd9279c7e9995dc064f6a541a79b7ce710a634ff7",
        ),
    ],
    ids=["empty", "json", "older generation"],
)
def test_the_prefix_is_optional(body: bytes, digest: str) -> None:
    assert verify(digest, body) == Verified(0)
    assert verify(f"sha256={digest}", body) == Verified(0)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        DIGEST.upper(),
        f"sha256={DIGEST.upper()}",
        f"SHA256={DIGEST}",
        f"sha256={DIGEST} ",
        f" sha256={DIGEST}",
        f"sha256= {DIGEST}",
        f"sha256=sha256={DIGEST}",
        f"sha1={DIGEST}",
        f"{DIGEST}0",
        f"0{DIGEST}",
        DIGEST[:-1],
        DIGEST[:32],
        f"{DIGEST},{DIGEST}",
        f"t=1779460951,v1={DIGEST}",
        "+DNmG13z01Ncu+oGGvhOO0tGGpdaWnvRarPUQfpqgbQ=",  # the same digest in base64
        DIGEST.replace("f", "\uff46"),  # full-width letters
        DIGEST.replace("3", "\u0663"),  # Arabic digits
        "\udcff\udcfe",  # bytes that are not UTF-8
        "é" * 64,
    ],
)
def test_only_the_digest_in_lower_case_hex_is_the_signature(signature: str) -> None:
    assert code_of(verify(signature)) == "signature_mismatch"


def test_every_changed_digit_of_the_signature_is_refused() -> None:
    for place, digit in enumerate(DIGEST):
        changed = "0" if digit != "0" else "1"
        forged = DIGEST[:place] + changed + DIGEST[place + 1 :]
        assert code_of(verify(forged)) == "signature_mismatch", place


def test_every_changed_byte_of_the_body_is_refused() -> None:
    for place in range(len(BODY)):
        for forged in (
            BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :],
            BODY[:place] + BODY[place + 1 :],
            BODY[:place] + b" " + BODY[place:],
        ):
            assert code_of(verify(DIGEST, forged)) == "signature_mismatch", forged


def test_a_missing_signature_is_refused_and_so_is_a_second_one() -> None:
    scheme = marble_scheme([SECRET])
    none = scheme.verify(Signed(CIMultiDict(), BODY), NOW)
    assert none == Refused("header_missing", "there is no x-marble-signature header")
    two = CIMultiDict([("x-marble-signature", "0" * 64), ("X-Marble-Signature", DIGEST)])
    assert code_of(scheme.verify(Signed(two, BODY), NOW)) == "header_repeated"


@pytest.mark.parametrize(
    ("secrets", "verdict"),
    [
        ((SECRET, OTHER), Verified(0)),
        ((OTHER, SECRET), Verified(1)),
        (("a", "b", SECRET), Verified(2)),
        (
            (OTHER, "a"),
            Refused(
                "signature_mismatch",
                "x-marble-signature is not the HMAC-SHA256 (lower-case hex) of the body under "
                "any of the 2 secrets",
            ),
        ),
    ],
)
def test_any_of_several_secrets_verifies_and_the_verdict_says_which(
    secrets: tuple[str, ...], verdict: Verdict
) -> None:
    assert verify(DIGEST, secrets=secrets) == verdict


def test_the_key_is_the_secrets_text_and_never_what_its_hex_digits_stand_for() -> None:
    secret = "c0ffee" * 10 + "beef"
    assert len(secret) == 64
    as_text = hmac.digest(secret.encode(), BODY, "sha256").hex()
    as_bytes = hmac.digest(bytes.fromhex(secret), BODY, "sha256").hex()
    assert verify(as_text, secrets=(secret,)) == Verified(0)
    assert code_of(verify(as_bytes, secrets=(secret,))) == "signature_mismatch"


@pytest.mark.parametrize("secrets", [("",), (SECRET, ""), ("hush\udcff",)])
def test_a_secret_that_keeps_nobody_out_does_not_start(secrets: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        marble_scheme(secrets)


# --- the timestamped form ---


def test_the_timestamped_form_signs_the_time_before_the_body() -> None:
    assert verify(TIMESTAMPED_BODY, timestamp="1779460951") == Verified(0)
    assert verify(f"sha256={TIMESTAMPED_BODY}", timestamp="1779460951") == Verified(0)
    refused = verify(DIGEST, timestamp="1779460951")
    assert refused == Refused(
        "signature_mismatch",
        "x-marble-signature is not the HMAC-SHA256 (lower-case hex) of {timestamp}.{body} under "
        "any of the 1 secrets",
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


# --- signing, and whatever comes ---


def test_it_signs_with_its_first_secret() -> None:
    delivery = Signed(CIMultiDict(), BODY)
    assert marble_scheme([SECRET, OTHER]).sign(delivery, NOW + 0.9).headers == {
        "x-marble-signature": f"sha256={DIGEST}"
    }
    assert marble_scheme([SECRET, OTHER], with_time=True).sign(delivery, NOW + 0.9).headers == {
        "x-marble-signature": f"sha256={TIMESTAMPED_BODY}",
        "x-marble-timestamp": "1779460951",
    }


@given(body=st.binary(), timestamped=st.booleans(), now=st.floats(0, 4e9))
@settings(deadline=None)
def test_what_it_signs_it_verifies(body: bytes, timestamped: bool, now: float) -> None:
    scheme = marble_scheme([SECRET], with_time=timestamped)
    headers = scheme.sign(Signed(CIMultiDict(), body), now).headers
    assert scheme.verify(Signed(headers, body), now) == Verified(0)


@given(
    signature=st.binary(),
    timestamp=st.binary() | st.integers().map(lambda n: str(n).encode()),
    body=st.binary(),
    timestamped=st.booleans(),
)
@settings(deadline=None)
def test_any_bytes_end_in_a_refusal_that_shows_no_secret(
    signature: bytes, timestamp: bytes, body: bytes, timestamped: bool
) -> None:
    headers = CIMultiDict(
        {
            "x-marble-signature": signature.decode("utf-8", "surrogateescape"),
            "x-marble-timestamp": timestamp.decode("utf-8", "surrogateescape"),
        }
    )
    scheme = marble_scheme([SECRET, OTHER], with_time=timestamped)
    verdict = scheme.verify(Signed(headers, body), NOW)
    assert isinstance(verdict, Refused)
    assert SECRET not in verdict.detail
    assert OTHER not in verdict.detail
    verdict.detail.encode()  # it can be logged and sent
