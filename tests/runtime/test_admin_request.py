"""Which requests the admin address answers, and why it refuses the others. Without a socket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.runtime.admin_request import Asked, PageRefusal, is_private_host, read_request

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"


def judge(*lines: str, listens_on: str = LOOPBACK) -> Asked | PageRefusal:
    return read_request("\r\n".join([*lines, "", ""]).encode("latin-1"), listens_on)


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        (["GET /readyz HTTP/1.1", "Host: 127.0.0.1:9000"], Asked("/readyz", is_head=False)),
        (["GET /metrics?name=x HTTP/1.0"], Asked("/metrics", is_head=False)),
        (["HEAD /healthz HTTP/1.1", "host:localhost"], Asked("/healthz", is_head=True)),
        (["GET / HTTP/1.1", "Host: [::1]:9000"], Asked("/", is_head=False)),
        (["GET / HTTP/1.1", "Host: a", "Content-Length: 0"], Asked("/", is_head=False)),
    ],
)
def test_a_request_in_order_asks_for_a_path(lines: list[str], asked: Asked) -> None:
    assert judge(*lines, listens_on=EVERYWHERE) == asked


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["GET /"], "request_malformed"),
        (["GET / HTTP/2.0"], "request_malformed"),
        (["GET  / HTTP/1.1"], "request_malformed"),
        (["\x16\x03\x01 / HTTP/1.1"], "request_malformed"),
        (["GET / HTTP/1.1", "no colon"], "request_malformed"),
        (["GET / HTTP/1.1", "X-A: 1", " folded"], "request_malformed"),
        (["GET / HTTP/1.1", "X-A: 1\nX-B: 2"], "request_malformed"),
        (["GET / HTTP/1.1", "Host: a", "Host: a"], "request_malformed"),
        (["GET / HTTP/1.1", "Host: evil.example"], "host_unknown"),
        (["GET / HTTP/1.1", "Host: 127.0.0.1.evil.example"], "host_unknown"),
        (["GET / HTTP/1.1", "Host: "], "host_unknown"),
        (["GET / HTTP/1.1", "Host: a@127.0.0.1"], "host_unknown"),
        (["POST / HTTP/1.1", "Host: 127.0.0.1"], "method_not_allowed"),
        (["get / HTTP/1.1"], "method_not_allowed"),
        (["GET / HTTP/1.1", "Content-Length: 1"], "too_large"),
        (["GET / HTTP/1.1", "content-length: +0"], "too_large"),
        (["GET / HTTP/1.1", "Transfer-Encoding: chunked"], "too_large"),
    ],
)
def test_any_other_request_is_refused_with_its_reason(lines: list[str], code: str) -> None:
    refused = judge(*lines)
    assert isinstance(refused, PageRefusal)
    assert refused.code == code
    assert 400 <= refused.status < 500


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3:9000", "[::1]", "[fe80::1]:9000", "localhost", "app.localhost."]
)
@pytest.mark.parametrize("listens_on", [LOOPBACK, "localhost", "::1", EVERYWHERE, "10.1.2.3"])
def test_an_address_and_localhost_are_names_that_no_stranger_owns(
    host: str, listens_on: str
) -> None:
    assert is_private_host(host, listens_on)


@pytest.mark.parametrize(
    "host", ["worker", "hookmill_worker-1:9000", "app.internal", "worker.default.svc.cluster.local"]
)
def test_a_name_of_a_private_network_is_good_only_beyond_this_machine(host: str) -> None:
    assert is_private_host(host, EVERYWHERE)
    assert not is_private_host(host, LOOPBACK)
    assert not is_private_host(host, "localhost")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.local",
        "10.1.2.3.nip.io",
        "0x7f.1",
        "[::1",
        "",
    ],
)
@pytest.mark.parametrize("listens_on", [LOOPBACK, EVERYWHERE])
def test_a_name_that_a_stranger_may_own_is_refused(host: str, listens_on: str) -> None:
    assert not is_private_host(host, listens_on)


def test_the_name_that_the_settings_give_is_good() -> None:
    assert is_private_host("Node7.Corp.Example:9000", "node7.corp.example")


HEADS = st.binary(max_size=300) | st.lists(
    st.sampled_from(
        [
            *(b"GET", b"HEAD", b" ", b"/", b"/metrics", b"HTTP/1.1", b"\r\n", b"\n", b":", b"Host"),
            *(b"127.0.0.1", b"evil", b".", b"[", b"\x00", b"\xff", b"Content-Length", b"0", b"\t"),
        ]
    )
).map(b"".join)


@given(HEADS)
def test_whatever_arrives_is_answered_with_a_page_or_a_4xx(head: bytes) -> None:
    found = read_request(head + b"\r\n\r\n", LOOPBACK)
    assert isinstance(found, Asked) or 400 <= found.status < 500


OTHERS = st.lists(
    st.sampled_from([b"Accept: */*", b"X-Host: 127.0.0.1", b"Origin: null", b"Hosts: localhost"])
)


@given(st.sampled_from([b"GET", b"HEAD"]), OTHERS, OTHERS, st.text("ab.-", min_size=1, max_size=9))
def test_no_head_is_taken_whose_host_is_a_strangers(
    method: bytes, before: list[bytes], after: list[bytes], name: str
) -> None:
    host = b"Host: %s.example" % name.encode()
    head = b"\r\n".join([method + b" /metrics HTTP/1.1", *before, host, *after, b"", b""])
    assert isinstance(read_request(head, EVERYWHERE), PageRefusal)
    harmless = head.replace(host, b"Host: localhost")
    assert isinstance(read_request(harmless, EVERYWHERE), Asked)


def test_a_refusal_that_names_a_hostile_message_steers_no_terminal() -> None:
    refused = PageRefusal(
        503, "loop_blocked", "blocked by message ev\x1b[31mil\u202e\x9b\udc80"
    ).answer
    assert refused.body.isascii()
    assert refused.body.decode().isprintable()
    said = json.loads(refused.body)["detail"]
    assert said == "blocked by message ev\x1b[31mil\u202e\x9b\\udc80"
