"""What all schemes share: one header and no second, bytes as they came, secrets that keep out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures import Refused
from hookmill.signatures.scheme import only_header, secret_bytes

NAME = "X-Signature"


def as_aiohttp_shows(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", [NAME, "x-signature", "X-SIGNATURE"])
def test_a_header_is_found_however_it_is_spelt(name: str) -> None:
    assert only_header(CIMultiDict({name: "abc"}), NAME) == b"abc"


def test_an_empty_header_is_there_and_is_empty() -> None:
    assert only_header(CIMultiDict({NAME: ""}), NAME) == b""


def test_a_missing_header_is_refused() -> None:
    verdict = only_header(CIMultiDict({"X-Other": "abc"}), NAME)
    assert verdict == Refused("header_missing", "there is no X-Signature header")


@pytest.mark.parametrize(("first", "second"), [("abc", "abc"), ("abc", "forged"), ("", "abc")])
def test_a_second_header_is_refused_even_where_it_says_the_same(first: str, second: str) -> None:
    verdict = only_header(CIMultiDict([(NAME, first), (NAME.lower(), second)]), NAME)
    assert verdict == Refused("header_repeated", "there are 2 X-Signature headers, one is allowed")


@given(raw=st.binary())
@settings(deadline=None)
def test_a_header_gives_the_very_bytes_that_were_sent(raw: bytes) -> None:
    assert only_header(CIMultiDict({NAME: as_aiohttp_shows(raw)}), NAME) == raw


@pytest.mark.parametrize("value", ["\ud800", "a\udbffb"])
def test_a_header_that_stands_for_no_bytes_is_refused(value: str) -> None:
    verdict = only_header(CIMultiDict({NAME: value}), NAME)
    assert verdict == Refused("header_malformed", "the X-Signature header cannot be read as bytes")


def test_a_secret_is_its_text_and_not_what_the_text_may_encode() -> None:
    assert secret_bytes("c0ffee") == b"c0ffee"
    assert secret_bytes("schlüssel") == b"schl\xc3\xbcssel"


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("", "a signing secret is empty: anyone could sign with it"),
        ("hush\udcff", "a signing secret is not text in UTF-8"),
    ],
)
def test_a_secret_that_keeps_nobody_out_does_not_start(secret: str, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        secret_bytes(secret)
    assert caught.value.faults == (fault,)
