"""What a browser sends for a web page is told from what a program sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.emulator.origins import fault_of

HERE = ("Host", "127.0.0.1:8081")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8081",
        "127.0.0.1",
        "127.8.9.1:1",
        "localhost:8081",
        "LocalHost",
        "[::1]:8081",
        "[::1]",
        "192.0.2.7:8081",
    ],
)
def test_a_program_on_this_machine_or_at_the_address_that_is_listened_on_is_served(
    host: str,
) -> None:
    for more in ([], [("Sec-Fetch-Site", "none")], [("Sec-Fetch-Site", "same-origin")]):
        assert fault_of(CIMultiDict([("host", host), *more]), "192.0.2.7") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8081",
        "127.0.0.1.evil.example:8081",
        "localhost.evil.example",
        "evil.localhost:8081",
        "localhost.",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "evil.example#127.0.0.1",
        "127.0.0.1:8081, evil.example",
        "127.0.0.1:80:81",
        "127.0.0.1:",
        "127.1",
        "2130706433",
        "0.0.0.0:8081",
        "[::]:8081",
        "192.0.2.8:8081",
        "[::1",
        "",
        " ",
    ],
)
def test_a_host_that_has_come_to_mean_this_machine_is_refused(host: str) -> None:
    fault = fault_of(CIMultiDict([("Host", host)]), "192.0.2.7")
    assert fault == "its Host is not this machine: use 127.0.0.1 or localhost"


def test_no_host_or_two_hosts_are_refused() -> None:
    assert fault_of(CIMultiDict(), "127.0.0.1")
    assert fault_of(CIMultiDict([HERE, HERE]), "127.0.0.1")


@pytest.mark.parametrize(
    "origin",
    ["null", "", "https://evil.example", "http://127.0.0.1:8081", "http://localhost:3000", "file:"],
)
def test_what_has_an_origin_is_refused_because_the_emulator_has_no_pages(origin: str) -> None:
    assert fault_of(CIMultiDict([HERE, ("origin", origin)]), "127.0.0.1")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "CROSS-SITE", "unknown", ""])
def test_what_comes_from_another_site_is_refused(site: str) -> None:
    assert fault_of(CIMultiDict([HERE, ("Sec-Fetch-Site", site)]), "127.0.0.1")
    twice = [HERE, ("Sec-Fetch-Site", "none"), ("sec-fetch-site", site)]
    assert fault_of(CIMultiDict(twice), "127.0.0.1")


@given(st.text(max_size=40))
def test_any_other_host_is_refused(text: str) -> None:
    found = fault_of(CIMultiDict([("Host", text)]), "127.0.0.1")
    assert found is None or "Host" in found
    if not text.lower().startswith(("127.", "localhost", "[")):
        assert found
