"""Intake: what is refused, before or after the body is read."""

from __future__ import annotations

from typing import NoReturn

import pytest
from msgspec.structs import replace
from multidict import CIMultiDict

from hookmill.config.sources import Source
from hookmill.signatures import Scheme
from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.qstash import QStash
from receiver.intake import admit, precheck, too_large
from receiver.responses import Refusal
from tests.receiver.requests import (
    LIMIT,
    MARBLE,
    NOW,
    ORDERED,
    PUBLIC_URL,
    QSTASH,
    SOURCES,
    TIMESTAMPED,
    RawHeaders,
    refusal_of,
    request,
    signed,
)

# --- refused ---


@pytest.mark.parametrize("source", SOURCES)
def test_what_does_not_verify_is_unauthorised(source: Source) -> None:
    unsigned = admit(source, request(source.path, (), b"{}"), NOW)
    assert refusal_of(unsigned)[:2] == (401, "header_missing")
    tampered = replace(signed(source, b"{}"), body=b"{ }")
    assert refusal_of(admit(source, tampered, NOW)).status == 401
    strange: Scheme = QStash(["sig_strange"], public_url=PUBLIC_URL)
    if source.name == "marble":
        strange = marble_scheme(["strange"], with_time=source is TIMESTAMPED)
    stranger = admit(source, signed(source, b"{}", scheme=strange), NOW)
    assert refusal_of(stranger)[:2] == (401, "signature_mismatch")


def test_the_refusal_has_the_code_and_detail_of_the_scheme() -> None:
    late = admit(QSTASH, signed(QSTASH, b"{}"), NOW + 360)
    assert late == Refusal(401, "expired", "the token expired 60 s ago")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (((b"Upstash-Message-Id", b"\xff"),), "message_id_malformed"),
        (((b"Upstash-Message-Id", b""),), "message_id_malformed"),
        (((b"Upstash-Message-Id", b"m" * 256),), "message_id_malformed"),
        (((b"Upstash-Message-Id", b"a"), (b"upstash-message-id", b"b")), "header_repeated"),
        (((b"x-marble-signature", b"x"), (b"Upstash-Signature", b"x")), "header_repeated"),
    ],
)
def test_headers_that_could_mean_two_things_or_none_are_refused(
    more: RawHeaders, code: str
) -> None:
    for source in (QSTASH, MARBLE, TIMESTAMPED, ORDERED):
        refusal = refusal_of(admit(source, signed(source, b"{}", *more), NOW))
        assert refusal[:2] == (401, code)


def test_nothing_is_read_of_a_delivery_that_does_not_verify() -> None:
    def must_not_be_asked(*asked: object) -> NoReturn:
        raise AssertionError("the body was looked at before its signature")

    source = replace(QSTASH, identify=must_not_be_asked, key_of=must_not_be_asked)
    refusal = admit(source, request("/qstash", ((b"Upstash-Signature", b"x"),), b"{}"), NOW)
    assert refusal_of(refusal).code == "token_malformed"


# --- before the body is read ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Encoding": "identity"},
        {"content-encoding": " Identity "},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/gzip"},
        {"Expect": "100-continue"},
    ],
)
@pytest.mark.parametrize("length", [None, 0, LIMIT])
def test_a_post_within_the_limit_is_read(headers: dict[str, str], length: int | None) -> None:
    assert precheck("POST", CIMultiDict(headers), length, LIMIT) is None


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "", "\udcff"]
)
def test_deliveries_come_with_post(method: str) -> None:
    refusal = precheck(method, CIMultiDict(), 0, LIMIT)
    assert refusal == Refusal(405, "method_not_allowed", "deliveries are sent with POST")


@pytest.mark.parametrize(
    "encodings",
    [["gzip"], ["GZIP"], ["br"], ["deflate, gzip"], ["identity", "gzip"], ["\udcff"], [""]],
)
def test_an_encoded_body_is_refused_before_it_is_read(encodings: list[str]) -> None:
    headers = CIMultiDict([("Content-Encoding", each) for each in encodings])
    assert precheck("POST", headers, 10, LIMIT) == Refusal(
        415, "content_encoding", "send the body without a Content-Encoding"
    )


@pytest.mark.parametrize("length", [LIMIT + 1, 10**30])
def test_a_body_announced_as_too_large_is_refused_before_it_is_read(length: int) -> None:
    refusal = precheck("POST", CIMultiDict(), length, LIMIT)
    assert (
        refusal
        == too_large(LIMIT)
        == Refusal(413, "too_large", "a body may have at most 1000 bytes")
    )
