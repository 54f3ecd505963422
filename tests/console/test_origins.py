"""Which requests another site may have made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.console.origins import host_fault, origin_fault

URL = "https://hookmill.example"
LOOPBACK, ANY = "127.0.0.1", "0.0.0.0"


def headers(**values: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in values.items()})


@pytest.mark.parametrize(
    ("host", "listens_on", "url", "is_right"),
    [
        ("127.0.0.1:8090", LOOPBACK, None, True),
        ("localhost:8090", LOOPBACK, None, True),
        ("localhost.", LOOPBACK, None, True),
        ("[::1]:8090", "::1", None, True),
        ("evil.example", LOOPBACK, None, False),
        ("127.0.0.1.evil.example:8090", LOOPBACK, None, False),
        ("hookmill.example", LOOPBACK, URL, True),
        ("evil.example", LOOPBACK, URL, False),
        ("ops.internal:8090", ANY, None, True),
        ("evil.example", ANY, URL, False),
        ("", ANY, None, False),
        ("a b", ANY, None, False),
    ],
)
def test_on_loopback_only_names_of_this_machine_and_the_url_count(
    host: str, listens_on: str, url: str | None, is_right: bool
) -> None:
    assert (host_fault(headers(Host=host), listens_on, url) is None) is is_right


def test_a_second_host_is_refused() -> None:
    assert host_fault(CIMultiDict([("Host", "localhost"), ("Host", "localhost")]), ANY, None)


@pytest.mark.parametrize(
    ("given_headers", "url", "is_right"),
    [
        ({"Sec_Fetch_Site": "same-origin"}, None, True),
        ({"Sec_Fetch_Site": "none"}, None, True),
        ({"Sec_Fetch_Site": "same-site"}, None, False),
        ({"Sec_Fetch_Site": "cross-site", "Origin": "http://ops:8090"}, None, False),
        ({"Origin": "http://ops:8090"}, None, True),
        ({"Origin": "HTTP://OPS:8090"}, None, True),
        ({"Origin": "http://ops:8091"}, None, False),
        ({"Origin": "http://evil.example"}, None, False),
        ({"Origin": "null"}, None, False),
        ({"Origin": ""}, None, False),
        ({"Origin": "http://["}, None, False),
        ({"Origin": URL}, URL, True),
        ({"Origin": URL}, None, False),
        ({}, None, True),
    ],
)
def test_a_change_comes_from_the_consoles_own_pages_or_from_no_browser(
    given_headers: dict[str, str], url: str | None, is_right: bool
) -> None:
    assert (origin_fault(headers(Host="ops:8090", **given_headers), url) is None) is is_right


@given(st.text(), st.text(), st.text())
def test_no_header_makes_it_fail(host: str, origin: str, site: str) -> None:
    asked = headers(Host=host, Origin=origin, Sec_Fetch_Site=site)
    host_fault(asked, LOOPBACK, URL)
    origin_fault(asked, URL)
    del asked["Sec-Fetch-Site"]
    origin_fault(asked, URL)
