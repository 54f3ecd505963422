"""What the fuzz run puts into requests to damage them: bodies, header lines, methods and paths."""

from __future__ import annotations

BOMBS = (
    b"[" * 20_000,
    b"[" * 5_000 + b"]" * 5_000,
    b'{"type":' * 4_000,
    b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
    b'{"type":"\\ud800","id":"\\udc00\\ud800"}',
    b'{"type":"\xed\xa0\x80","id":"\xff"}',
    b'{"id":' + b"9" * 10_000 + b"}",
    b'{"id":1e999999999,"type":-7}',
    b'{"type":"' + b"t" * 5_000 + b'","event":"' + b"\\u0000" * 500 + b'"}',
    b"{" + b'"type":"a",' * 2_000 + b'"id":"b"}',
    b'{"event":{"type":{"type":[[]]}},"payload":[],"entry":[{"changes":[]}],"meta":null}',
    b'[{"eventId":1,"subscriptionType":2}]',
    "{'ä': 'ö'}".encode("utf-16"),
    b"\x00" * 3_000,
    b"",
    b"&".join(b"a%d=%%zz" % n for n in range(1_500)),
)

HEAD_GARBAGE = (
    b"X-Garbage\r\n",
    b"X Garbage: 1\r\n",
    b"X-Garbage : 1\r\n",
    b": 1\r\n",
    b"X-Nul: a\x00b\r\n",
    b"X-\x00: a\r\n",
    b"X-Bell: \x07\x1b[2J\r\n",
    b"X-Fold: a\r\n b\r\n",
    b" X-Fold: a\r\n",
    b"X-Return: a\rb\r\n",
    b"X-Line: a\nb\r\n",
    b"\xff\xfe: \xff\r\n",
    b"X-Long: " + b"x" * 20_000 + b"\r\n",
    b"X" * 9_000 + b": 1\r\n",
    b"X-Many: 1\r\n" * 1_000,
    b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Content-Length: 5, 6\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAAA\r\n",
    b"Connection: close\r\n",
    b"Host: b\r\n",
    b"Expect: 200-maybe\r\n",
    b"Cookie: " + b"a=b; " * 500 + b"\r\n",
)

HEADER_VALUES = (
    b"", b"1", b"\xff\xfe", b"\xed\xa0\x80", "ä".encode(), b"a" * 4_000, b'"', b"%00",
    b"=?utf-8?q?",
)  # fmt: skip

METHODS = (
    "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH",
)  # fmt: skip

ROUGH_METHODS = ("CONNECT", "PRI", "POSTS", "P", "post", "", "P\x00ST", "POST POST", "PÖST")
"""Malformed methods, and methods without a body, after which a body looks like the next request."""

OTHER_PATHS = (
    "/", "//", "/nowhere", "/healthz", "/readyz", "/metrics", "/..%2f", "/%ff", "/a" * 3_000,
    "*", "", "http://", "http://[::1", "//a@b:c", "/\x7f", "/ ",
)  # fmt: skip
