"""The headers that a message keeps of its delivery."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hookmill.message import Message, pack_headers

MESSAGE = Message(id="msg_1", source="marble", type="", body=b"", received_ms=0)


def test_headers_are_kept_unchanged_without_credentials_and_connection_headers() -> None:
    pairs = (
        (b"Host", b"hooks.example"),
        (b"Upstash-Signature", b"a.b.c"),
        (b"AUTHORIZATION", b"Bearer shh"),
        (b"Proxy-Authorization", b"Basic shh"),
        (b"cookie", b"session=shh"),
        (b"Content-Length", b"2"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"keep-alive"),
        (b"Expect", b"100-continue"),
        (b"X-Tag", b"one"),
        (b"x-tag", b"two: three"),
        (b"X-Empty", b""),
        (b"X-Latin", b"\xe4"),
    )

    block = pack_headers(pairs)

    assert block == (
        b"Upstash-Signature: a.b.c\r\nX-Tag: one\r\nx-tag: two: three\r\nX-Empty: \r\nX-Latin: \xe4"
    )
    headers = msgspec.structs.replace(MESSAGE, header_block=block).headers
    assert headers.getall("X-TAG") == ["one", "two: three"]
    assert headers["x-empty"] == ""
    assert headers["X-Latin"].encode("utf-8", "surrogateescape") == b"\xe4"
    assert "Authorization" not in headers
    assert "shh" not in str(headers)


def test_a_message_without_headers_has_none() -> None:
    assert not msgspec.structs.replace(MESSAGE, header_block=b"").headers
    assert pack_headers(()) == b""


HEADER_NAMES = st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", fullmatch=True).filter(
    lambda name: pack_headers(((name, b""),)) != b""
)
HEADER_VALUES = st.binary().filter(lambda value: b"\r" not in value and b"\n" not in value)


@given(st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES)))
def test_every_header_that_http_allows_is_read_as_it_was_written(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    headers = msgspec.structs.replace(MESSAGE, header_block=pack_headers(tuple(pairs))).headers

    found = [
        (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()
    ]
    assert found == pairs
