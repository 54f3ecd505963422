"""Bodies of deliveries, and how their names are found."""

from __future__ import annotations

import hashlib
import json

from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.identity import Identity

LONGEST = "n" * 255
TOO_LONG = "n" * 256
DEEP = b"[" * 100_000 + b"]" * 100_000

NO_HEADERS = CIMultiDict[str]()
QSTASH_ID = CIMultiDict({"upstash-message-id": "msg_1"})


SHAPELESS = [
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"true",
    b"5",
    b'"post.published"',
    b"[]",
    b'[{"type":"a"}]',
    b"{}",
    b'{"hello":"world"}',
    b"plain text",
    b"type=a&event=b",
    b"<type>a</type>",
    b"\x00\xff\xfe",
    b"\xef\xbb\xbf" + b'{"type":"a"}',
    '{"type":"a"}'.encode("utf-16"),
    b'{"type":"a"}{"type":"b"}',
    b'{"type":"a",}',
    b"{'type':'a'}",
    b'{"Type":"a"}',
    b'{"data":{"type":"a","event":"a"}}',
    b'{"type":null}',
    b'{"type":5}',
    b'{"type":true}',
    b'{"type":["a"]}',
    b'{"type":{"name":"a"}}',
    b'{"type":""}',
    b'{"type":"' + TOO_LONG.encode() + b'"}',
    b'{"type":"\\ud800"}',
    b'{"type":"\\udc00\\ud800"}',
    b'{"type":"\xff"}',
    b'{"type":"\xed\xa0\x80"}',
    b'{"type":"a',
    b'{"type":',
    b"[" * 100_000,
    b'{"type":' * 100_000,
    DEEP,
    b'{"x":' + DEEP + b',"type":"a"}',
]


def named_after(body: bytes, event_type: str = "") -> Identity:
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    return Identity(f"hm_{digest}", event_type, id_is_signed=True)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.binary() | st.dictionaries(
    st.sampled_from(["id", "type", "event", "data"]), JSON_VALUES
).map(lambda fields: json.dumps(fields).encode())
