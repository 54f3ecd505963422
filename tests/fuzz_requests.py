"""The fuzz run: mutated requests against a real receiver, and a verdict.

    make fuzz                                    1,000,000 requests
    python -m tests.fuzz_requests --requests 20000 --seed 7

A receiver with many sources listens on loopback. It gets signed deliveries and handshakes, mixed
with changed copies of them: another method or path, damaged signatures and bodies, headers that are
missing, doubled, huge or of any bytes, JSON that is hard to parse, wrong lengths, half requests,
and several requests at once. Some come from an HTTP client. Most are written to the socket as raw
bytes. Every signed delivery has to be accepted and stored, and no request that was changed after it
was signed may be stored. No request may cause an error in the receiver, make its memory grow, or
fill its log. One seed draws the same mutations for each connection.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import redis
from multidict import CIMultiDict
from yarl import URL

from hookmill.errors import SettingsError
from hookmill.message import about_of
from hookmill.signatures import Scheme, Signed
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec_verifier import SpecVerifier
from receiver.log_limits import PER_SECOND
from tests.support import Program, Server, free_port, server_binaries

PUBLIC_URL = "https://hooks.example"
VERIFY_TOKEN = "verify-token-of-ours"
LIMIT = 64 * 1024
"""The receiver's body limit."""

WIRES, CLIENTS = 24, 8
"""Number of connections on which the run writes raw bytes, and of those of an HTTP client."""

TIME_LIMIT = 20.0
"""Seconds for an answer. A later one counts as no answer."""

PATIENCE = 0.1
"""Seconds for the answer to a malformed request, before the run closes its side as well."""

GROWTH = 16 * 1024
"""KiB that the receiver's memory may grow between the first tenth of the requests and the last."""

PRESET_NAMES = (
    "contentful", "discord", "dropbox", "github", "gitlab-token", "hubspot", "intercom", "meta",
    "paddle", "sanity", "shopify", "slack", "square", "standard-webhooks", "stripe", "twitch",
    "woocommerce", "zoom",
)  # fmt: skip


class Expect(Enum):
    """What the receiver has to do with a request."""

    ACCEPTED = "accepted"
    """A genuine delivery: 200, and stored."""
    ANSWERED = "answered"
    """A genuine handshake: 2xx, and not stored."""
    REFUSED = "refused"
    """4xx, or no answer if it was not a valid request."""
    EITHER = "either"
    """Accepted or refused, because the signature may not cover what was changed. What is stored
    still has to be what was signed.
    """


class Ask(NamedTuple):
    """A request, split into its parts."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    expect: Expect
    key: bytes = b""
    """Digest of source and body, if the delivery was signed."""

    def with_header(self, name: bytes, value: bytes) -> Ask:
        return self._replace(headers=(*self.headers, (name, value)))

    def without(self, name: bytes) -> Ask:
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return self._replace(headers=kept)

    def refused(self, **parts: Any) -> Ask:
        return self._replace(expect=Expect.REFUSED, **parts)

    def wire(self) -> bytes:
        rows = b"".join(b"%b: %b\r\n" % pair for pair in self.headers)
        line = f"{self.method} {self.target} HTTP/1.1\r\nHost: a\r\n".encode("utf-8", "replace")
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (line, rows, len(self.body), self.body)


class Send(NamedTuple):
    """Bytes to be written at once.

    `asks` are the requests in them, in order. Without any, the bytes are malformed, and the
    connection is closed after them. `waits`: wait until the receiver closes the connection;
    otherwise the run closes its side first.
    """

    kind: str
    data: bytes
    asks: tuple[Ask, ...] = ()
    expect: Expect = Expect.REFUSED
    waits: bool = False


class Verdict(NamedTuple):
    """The result of a run. `failures` is empty if the receiver did everything right."""

    requests: int
    genuine: int
    handshakes: int
    refused: int
    unanswered: int
    stored: int
    seconds: float
    rate: int
    rss_early: int
    rss_late: int
    log_lines: int
    refusal_lines: int
    failures: list[str]


# --- senders ---


class Sender:
    """One configured source, and a sender that signs for it."""

    def __init__(self, name: str, secret: str, sign: Callable[[Signed], Signed] | None) -> None:
        self.name, self.path = name, f"/{name}"
        self.secret = secret
        self.spec = PRESETS[name].spec if name in PRESETS else None
        self.handshake = self.spec.handshake if self.spec else ""
        self.covers_body = self.spec is None or self.spec.covers_body
        self.has_time = self.spec is None or bool(self.spec.timestamp)
        place = self.spec.signature if self.spec else "header:Upstash-Signature"
        self.signature = place.removeprefix("header:").encode()
        self._sign = sign
        self._scheme = self._scheme_of(secret)
        self._strange = self._scheme_of("c3RyYW5nZS1zZWNyZXQtb2Ytbm9ib2R5LWhlcmU=")

    def _scheme_of(self, secret: str) -> Scheme | None:
        if self.spec is None:
            return QStash([secret], public_url=PUBLIC_URL)
        return None if self._sign else SpecVerifier(self.spec, [secret])

    def delivery(
        self,
        body: bytes,
        expect: Expect = Expect.ACCEPTED,
        *,
        off: float = 0.0,
        strange: bool = False,
        more: dict[str, str] | None = None,
    ) -> Ask:
        """Make a signed delivery. Its time is wrong by `off` seconds. `strange`: it is signed with
        a secret that the receiver does not know.
        """
        given = Signed(CIMultiDict(more or {}), body, self.path, url=PUBLIC_URL + self.path)
        if self._sign is not None:
            signed = self._sign(given)
        else:
            scheme = self._strange if strange else self._scheme
            assert scheme is not None
            signed = scheme.sign(given, time.time() + off)
        headers = tuple(
            (name.encode(), value.encode("utf-8", "surrogateescape"))
            for name, value in signed.headers.items()
        )
        return Ask("POST", signed.target, headers, signed.body, expect, key_of(self.name, body))


def key_of(name: str, body: bytes) -> bytes:
    return hashlib.blake2b(b"%b\0%b" % (name.encode(), body), digest_size=12).digest()


def senders() -> list[Sender]:
    """Return all senders of the run, each with its own secret."""
    found = [Sender("qstash", "sig_fuzz_0123456789abcdef", None)]
    for number, name in enumerate(PRESET_NAMES):
        secret = f"{number:02}" + "Zm9yLXRoZS1mdXp6LXJ1bi1hbG9uZS1zZWNy"[: 42 - 2 * (number % 2)]
        sign = None
        if name == "standard-webhooks":
            secret = "whsec_Zm9yLXRoZS1mdXp6LXJ1bi1hbG9uZS1zZWNy"
        if name == "discord":
            try:
                secret, sign = discord_keys()
            except ImportError:
                continue  # the extra that it needs is not installed
        try:
            found.append(Sender(name, secret, sign))
        except SettingsError as error:
            raise AssertionError(f"{name}: {error}") from error
    return found


def discord_keys() -> tuple[str, Callable[[Signed], Signed]]:
    """Return a public key, and a function that signs with its private key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - an extra
        Ed25519PrivateKey,
    )

    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"fuzz").digest())

    def sign(given: Signed) -> Signed:
        moment = str(int(time.time()))
        headers = CIMultiDict(given.headers)
        headers["X-Signature-Timestamp"] = moment
        headers["X-Signature-Ed25519"] = private.sign(moment.encode() + given.body).hex()
        return given._replace(headers=headers)

    return private.public_key().public_bytes_raw().hex(), sign


# --- genuine and damaged requests ---

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

_ALNUM = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Maker:
    """Draws requests and damages most of them."""

    def __init__(self, senders: list[Sender], draw: random.Random, lane: int) -> None:
        self._senders, self._draws, self._lane = senders, draw, lane
        self._draw = draw
        self._numbers = itertools.count()
        self.signed: set[bytes] = set()

    # Requests for a client or a raw connection

    def ask(self) -> tuple[str, Ask]:
        """Draw one request that is well-formed HTTP, with any content."""
        self._begin()
        return self._ask()

    def _begin(self) -> None:
        # How many numbers a request draws may depend on its signature, and so on the time. Each
        # request has its own generator, so that the next request does not depend on the time.
        self._draw = random.Random(self._draws.getrandbits(64))

    def _ask(self) -> tuple[str, Ask]:
        sender = self._draw.choice(self._senders)
        kind, weight = self._draw.random(), 0.0
        for name, share, make in self.MAKERS:
            weight += share
            if kind < weight:
                return name, make(self, sender)
        return "genuine", self._genuine(sender)

    def plain(self) -> tuple[Ask, CIMultiDict[str]]:
        """Draw a request that any client can send, with its headers as text."""
        ask = self._genuine(self._draw.choice(self._senders))
        return ask, CIMultiDict((name.decode(), value.decode()) for name, value in ask.headers)

    def _signed(self, sender: Sender, body: bytes, **options: Any) -> Ask:
        ask = sender.delivery(body, **options)
        self.signed.add(ask.key)
        return ask

    def _body(self) -> bytes:
        number = next(self._numbers)
        fields = {
            "id": f"evt_{self._lane}_{number}",
            "type": self._draw.choice(["order.paid", "ä", "x" * 300, 7]),
            "data": {"n": self._draw.random(), "text": "é" * self._draw.randrange(50)},
        }
        return json.dumps(fields, ensure_ascii=self._draw.random() < 0.5).encode()

    def _genuine(self, sender: Sender) -> Ask:
        return self._signed(sender, self._body())

    def _genuine_bomb(self, sender: Sender) -> Ask:
        body = self._draw.choice(BOMBS)
        if sender.has_time:  # an equal body within the same second would be a duplicate
            body += b" " * self._draw.randrange(2_000)
        return self._signed(sender, body)

    def _harmless(self, sender: Sender) -> Ask:
        ask = self._genuine(sender)
        for number in range(self._draw.randrange(1, 20)):
            ask = ask.with_header(b"X-More-%d" % number, self._draw.choice(HEADER_VALUES[:5]))
        shuffled = [(self._cased(name), value) for name, value in ask.headers]
        self._draw.shuffle(shuffled)
        return ask._replace(headers=tuple(shuffled))

    def _cased(self, name: bytes) -> bytes:
        return self._draw.choice([name.lower(), name.upper(), name])

    def _handshake(self, _: Sender) -> Ask:
        by_name = {sender.handshake: sender for sender in self._senders}
        name = self._draw.choice(
            ["dropbox", "head", "meta", "woocommerce", "slack", "twitch", "zoom"]
        )
        sender = by_name[name]
        text = f"c{self._draw.randrange(10**9)}"
        query = {
            "dropbox": f"?challenge={text}",
            "meta": f"?hub.mode=subscribe&hub.challenge={text}&hub.verify_token={VERIFY_TOKEN}",
        }
        if name in {"dropbox", "meta"}:
            return Ask("GET", sender.path + query[name], (), b"", Expect.ANSWERED)
        if name == "head":
            return Ask("HEAD", sender.path, (), b"", Expect.ANSWERED)
        if name == "woocommerce":
            body = b"webhook_id=%d" % self._draw.randrange(10**6)
            return Ask("POST", sender.path, (), body, Expect.ANSWERED)
        questions: dict[str, dict[str, Any]] = {
            "slack": {"type": "url_verification", "challenge": text},
            "twitch": {"challenge": text, "subscription": {}},
            "zoom": {"event": "endpoint.url_validation", "payload": {"plainToken": text}},
        }
        more = {"Twitch-Eventsub-Message-Type": "webhook_callback_verification"}
        return sender.delivery(
            json.dumps(questions[name]).encode(),
            Expect.ANSWERED,
            more=more if name == "twitch" else None,
        )

    def _bad_handshake(self, sender: Sender) -> Ask:
        ask = self._handshake(sender)
        if ask.method == "POST":
            body = self._damaged(ask.body, is_longer=True)
            return ask.refused(body=body)
        path, _, query = ask.target.partition("?")
        if "hub." in query:
            edits = ("hub.verify_token=x&", "hub.verify_token=%ff&", "&" * 2_000)
            changed = self._draw.choice([*(edit + query for edit in edits[:2]), query[:-1]])
            return ask.refused(target=f"{path}?{changed}")
        if query:
            texts = ("", "%0d%0aX:1", "%ff", "%00", "%c3%a4", "x" * 2_000, "a&challenge=b")
            return ask.refused(target=f"{path}?challenge={self._draw.choice(texts)}")
        return ask.refused(method="PUT")

    def _odd_question(self, _: Sender) -> Ask:
        """Sign a request that is almost a handshake. It may be answered, stored or refused, but it
        must not cause an error.
        """
        name = self._draw.choice(["slack", "twitch", "zoom"])
        sender = next(one for one in self._senders if one.name == name)
        value = self._draw.choice(
            ['""', "7", "[]", "null", '"\\u0000"', '"\\ud800"', '"' + "x" * 3_000 + '"']
        )
        body = {
            "slack": '{"type":"url_verification","challenge":%s,"n":%d}',
            "twitch": '{"challenge":%s,"n":%d}',
            "zoom": '{"event":"endpoint.url_validation","payload":{"plainToken":%s},"n":%d}',
        }[name] % (value, self._draw.randrange(10**9))  # fmt: skip
        more = {"Twitch-Eventsub-Message-Type": "webhook_callback_verification"}
        return self._signed(
            sender, body.encode(), expect=Expect.EITHER, more=more if name == "twitch" else None
        )

    def _bad_signature(self, sender: Sender) -> Ask:
        ask = self._genuine(sender)
        name = sender.signature
        value = next(value for key, value in ask.headers if key.lower() == name.lower())
        bare = ask.without(name)
        swapped = value.swapcase()
        changed = self._draw.choice([
            self._flipped(value), self._flipped(value), value[: len(value) // 2], b"",
            b"\xff\xfe\x80",
            b"\xed\xa0\x80" + value, "ä".encode(), b"x" * 7_000, b",".join([b"v1=00"] * 900),
            b" ".join([b"v1,AAAA"] * 800), b"a.b.c", b"eyJhbGciOiJub25lIn0.e30.",
            swapped if swapped != value else b"=",
        ])  # fmt: skip
        edits = [
            bare.with_header(name, changed),
            bare.with_header(name, changed),
            bare,
            ask.with_header(name.swapcase(), changed),
            ask.with_header(name, value),
        ]
        return self._draw.choice(edits).refused()

    def _flipped(self, value: bytes) -> bytes:
        """Change one letter or digit into another."""
        places = [n for n, byte in enumerate(value) if byte in _ALNUM]
        at = self._draw.choice(places)
        byte = self._draw.choice([one for one in _ALNUM if one != value[at]])
        return value[:at] + bytes([byte]) + value[at + 1 :]

    def _stranger(self, sender: Sender) -> Ask:
        if sender.name == "discord" or (self._draw.random() < 0.3):
            other = self._draw.choice([one for one in self._senders if one is not sender])
            return self._genuine(other).refused(target=sender.path)
        return sender.delivery(self._body(), Expect.REFUSED, strange=True)

    def _bad_time(self, sender: Sender) -> Ask:
        if not sender.has_time or sender.name == "discord":
            return self._stranger(sender)
        # An hour is more than every tolerance here. A QStash token of the future has a later "nbf".
        off = self._draw.choice([-1, 1]) * self._draw.uniform(3_600, 10**8)
        return sender.delivery(self._body(), Expect.REFUSED, off=off)

    def _bad_body(self, sender: Sender) -> Ask:
        if not sender.covers_body:
            return self._stranger(sender)
        ask = self._genuine(sender)
        return ask.refused(body=self._damaged(ask.body))

    def _damaged(self, body: bytes, *, is_longer: bool = False) -> bytes:
        at = self._draw.randrange(len(body))
        flipped = bytes([body[at] ^ (1 << self._draw.randrange(8))])
        edits = [
            body + self._draw.choice([b" ", b"\n", b"\0", b"&a=b", body]),
            body[:at] + b"\xff" + body[at:],
        ]
        if not is_longer:
            edits += [body[:at], body[:at] + flipped + body[at + 1 :], self._draw.choice(BOMBS)]
            edits += [b"x" * (LIMIT + self._draw.randrange(-5, 100))]
        return self._draw.choice(edits)

    def _bad_method(self, sender: Sender) -> Ask:
        method = self._draw.choice(METHODS)
        ask = self._genuine(sender).refused(method=method)
        if method == "HEAD" and sender.handshake == "head":
            return ask._replace(expect=Expect.EITHER)
        return ask

    def _bad_path(self, sender: Sender) -> Ask:
        ask = self._genuine(sender)
        path = sender.path
        edits = [path + "/", path + "x", "/" + path, path.upper() + "A", path + "%00", path[:-1]]
        edits += [f"/./{path[1:]}", f"/%{ord(path[1]):x}{path[2:]}", path + ";a=b"]
        return ask.refused(target=self._draw.choice(edits))

    def _with_query(self, sender: Sender) -> Ask:
        query = self._draw.choice(["?", "?a=b", "?%ff=%zz", "?" + "a" * 3_000, "?a=b&bodySHA256=x"])
        return self._genuine(sender)._replace(target=sender.path + query, expect=Expect.EITHER)

    def _encoded(self, sender: Sender) -> Ask:
        value = self._draw.choice([b"gzip", b"deflate", b"br", b"identity, gzip", b"\xff"])
        return self._genuine(sender).with_header(b"Content-Encoding", value).refused()

    def _with_headers(self, sender: Sender) -> Ask:
        """Double or replace a header of the sender. If a message is stored, its body is genuine."""
        ask = self._genuine(sender)
        names = [name for name, _ in ask.headers] + [b"Content-Type", b"X-GitHub-Event"]
        name = self._draw.choice(names)
        if self._draw.random() < 0.5:
            ask = ask.without(name)
        value = self._draw.choice(HEADER_VALUES)
        is_signature = name.lower() == sender.signature.lower()
        return ask.with_header(name, value)._replace(
            expect=Expect.REFUSED if is_signature else Expect.EITHER
        )

    MAKERS: tuple[tuple[str, float, Callable[[Maker, Sender], Ask]], ...] = (
        ("bomb, signed", 0.01, _genuine_bomb),
        ("harmless", 0.05, _harmless),
        ("handshake", 0.05, _handshake),
        ("handshake, damaged", 0.06, _bad_handshake),
        ("handshake, odd", 0.03, _odd_question),
        ("signature", 0.20, _bad_signature),
        ("stranger", 0.08, _stranger),
        ("time", 0.05, _bad_time),
        ("body", 0.14, _bad_body),
        ("method", 0.05, _bad_method),
        ("path", 0.05, _bad_path),
        ("query", 0.02, _with_query),
        ("encoding", 0.02, _encoded),
        ("headers", 0.06, _with_headers),
    )

    # Bytes that only a raw connection can send

    def send(self) -> Send:
        """Draw the bytes of one write."""
        self._begin()
        roll = self._draw.random()
        if roll < 0.74:
            kind, ask = self._ask()
            return Send(kind, ask.wire(), (ask,))
        if roll < 0.80:
            asks = tuple(self._ask()[1] for _ in range(self._draw.randrange(2, 6)))
            return Send("pipelined", b"".join(ask.wire() for ask in asks), asks)
        if roll < 0.84:
            return self._chunked()
        return self._rough()

    def _chunked(self) -> Send:
        sender = self._draw.choice(self._senders)
        ask = self._genuine(sender)
        head, _, body = ask.wire().partition(b"\r\n\r\n")
        head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
        at = self._draw.randrange(1, len(body))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (body[:at], body[at:]))
        if self._draw.random() < 0.5:
            return Send("chunked", b"%b\r\n\r\n%b0\r\n\r\n" % (head, chunks), (ask,))
        broken = self._draw.choice([b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"\xff", b""])
        return Send("chunks, broken", b"%b\r\n\r\n%b" % (head, broken + chunks[:-2]))

    def _rough(self) -> Send:
        # Senders that do not sign the body are left out, because a damaged body would be accepted.
        sender = self._draw.choice([one for one in self._senders if one.covers_body])
        ask = self._genuine(sender)
        data = ask.wire()
        head, _, body = data.partition(b"\r\n\r\n")
        kind = self._draw.choice(
            ["cut", "changed bytes", "garbage", "length", "head", "method", "path", "version"]
        )
        match kind:
            case "cut":
                return Send(kind, data[: self._draw.randrange(len(data))])
            case "changed bytes":
                changed = bytearray(data)
                for _ in range(self._draw.randrange(1, 8)):
                    changed[self._draw.randrange(len(changed))] = self._draw.randrange(256)
                return Send(kind, bytes(changed), expect=Expect.EITHER)
            case "garbage":
                return Send(kind, self._draw.randbytes(self._draw.randrange(1, 2_000)))
            case "length":
                return self._lying(head, body)
            case "head":
                line, _, rest = data.partition(b"\r\n")
                garbage = self._draw.choice(HEAD_GARBAGE)
                return Send(kind, line + b"\r\n" + garbage + rest, expect=Expect.EITHER)
            case "method":
                odd = ask._replace(method=self._draw.choice(ROUGH_METHODS))
                return Send(kind, odd.wire(), expect=Expect.EITHER)
            case "path":
                odd = ask._replace(target=self._draw.choice(OTHER_PATHS), expect=Expect.REFUSED)
                return Send(kind, odd.wire())
            case _:
                versions = (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1", b"ICY/1.1", b"")
                version = self._draw.choice(versions)
                return Send(kind, data.replace(b"HTTP/1.1", version, 1), expect=Expect.EITHER)

    def _lying(self, head: bytes, body: bytes) -> Send:
        """Give the body a wrong Content-Length."""
        waits = self._draw.random() < 0.1
        more = self._draw.choice([1, 10, LIMIT, 10**12, -1, -len(body)])
        length = max(0, len(body) + more)
        head = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % length, head)
        return Send("length", b"%b\r\n\r\n%b" % (head, body), waits=waits)


# --- the run ---


class Fuzz:
    """One run from start to verdict."""

    def __init__(self, folder: Path, *, requests: int, seed: int, binary: str) -> None:
        self.folder = folder
        self.requests = requests
        self.server = Server(binary, folder)
        self.port = free_port()
        self.senders = senders()
        self.makers = [
            Maker(self.senders, random.Random(f"{seed}:{lane}"), lane)
            for lane in range(WIRES + CLIENTS)
        ]
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.failures: list[str] = []
        self.accepted: set[bytes] = set()
        self.stored: set[bytes] = set()
        self.entries = 0
        self.rss_early = 0

    async def run(self) -> Verdict:
        """Send everything, then check the stored messages, the log and the memory."""
        self.server.start()
        receiver = self._receiver()
        try:
            await asyncio.to_thread(receiver.wait_for, '"receiving"')
            began = time.monotonic()
            share = self.requests // (WIRES + CLIENTS)
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=TIME_LIMIT),
            ) as session:
                lanes = [self._on_wire(maker) for maker in self.makers[:WIRES]]
                lanes += [self._by_client(maker, session) for maker in self.makers[WIRES:]]
                watching = asyncio.create_task(self._watch(receiver.pid))
                await asyncio.gather(*lanes)
                self._fail_unless(share > 0, "fewer requests than connections")
            watching.cancel()
            await asyncio.wait([watching])
            seconds = time.monotonic() - began
            rss_late = rss_of(receiver.pid)
            await asyncio.to_thread(self._collect)
            self._fail_unless(receiver.returncode is None, "the receiver has ended")
            receiver.stop()
            return self._verdict(receiver, seconds, rss_late)
        finally:
            receiver.kill()
            self.server.kill()

    def _receiver(self) -> Program:
        env = {
            "REDIS_URL": self.server.url,
            "PORT": str(self.port),
            "HOOKMILL_HOST": "127.0.0.1",
            "HOOKMILL_PREFIX": "fuzz",
            "HOOKMILL_PUBLIC_URL": PUBLIC_URL,
            "HOOKMILL_BODY_LIMIT": str(LIMIT),
            "HOOKMILL_READ_TIMEOUT": "2",
            "HOOKMILL_APPEND_TIMEOUT": "10",
            "FUZZ_TOKEN": VERIFY_TOKEN,
        }
        toml = ""
        for number, sender in enumerate(self.senders):
            env[f"FUZZ_SECRET_{number}"] = sender.secret
            toml += f'[sources.{sender.name}]\nsecrets = "env:FUZZ_SECRET_{number}"\n'
            toml += 'verify_token = "env:FUZZ_TOKEN"\n' if sender.name == "meta" else ""
        (self.folder / "hookmill.toml").write_text(toml)
        return Program(self.folder, "receiver", env=env)

    # Sending

    def _take(self) -> bool:
        if self.count >= self.requests:
            return False
        self.count += 1
        return True

    async def _by_client(self, maker: Maker, session: aiohttp.ClientSession) -> None:
        base = f"http://127.0.0.1:{self.port}"
        while self._take():
            kind, ask = maker.ask()
            try:
                headers = CIMultiDict(
                    (name.decode(), value.decode()) for name, value in ask.headers
                )
            except UnicodeDecodeError:
                kind, ask, headers = "genuine", *maker.plain()
            self.kinds[kind] += 1
            try:
                async with session.request(
                    ask.method, URL(base + ask.target, encoded=True), data=ask.body or None,
                    headers=headers, allow_redirects=False, skip_auto_headers=["Content-Type"],
                ) as answer:  # fmt: skip
                    body = await answer.read()
                    self._judge(kind, ask, answer.status, body)
            except (aiohttp.ClientError, TimeoutError, UnicodeEncodeError) as error:
                # A client that is refused while it still sends may not see the answer, and some
                # of these requests a client cannot send.
                self._judge(kind, ask, 0, repr(error).encode())

    async def _on_wire(self, maker: Maker) -> None:
        wire: Wire | None = None
        while self._take():
            if wire is None:
                wire = await Wire.open(self.port)
            send = maker.send()
            self.kinds[send.kind] += 1
            # A pipelined write has several requests.
            self.count += max(len(send.asks), 1) - 1
            try:
                is_open = await self._exchange(wire, send)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                # If a request is refused before all of it was read, the connection may be reset,
                # and its answer is lost.
                may_be = any(ask.expect in {Expect.REFUSED, Expect.EITHER} for ask in send.asks)
                self.results["unanswered"] += len(send.asks)
                self._fail_unless(
                    may_be,
                    f"{send.kind}: {error!r} for {send.data[:300]!r}",
                )
                is_open = False
            if not is_open:
                wire.close()
                wire = None
        if wire is not None:
            wire.close()

    async def _exchange(self, wire: Wire, send: Send) -> bool:
        """Write, and read the answers. Return whether the connection can still be used."""
        wire.write(send.data)
        if not send.asks:
            for status, body in await wire.answers(waits=send.waits) or [(0, b"")]:
                self._judge_status(send.kind, send.expect, status, body, send.data)
            return False
        for position, ask in enumerate(send.asks):
            status, body, is_open = await wire.answer(is_head=ask.method == "HEAD")
            self._judge(send.kind, ask, status, body)
            if not is_open:
                # The receiver must not read the requests behind this one.
                self.results["unanswered"] += len(send.asks) - position - 1
                return False
        return True

    # Judging

    def _judge(self, kind: str, ask: Ask, status: int, body: bytes) -> None:
        self._judge_status(kind, ask.expect, status, body, ask)
        if ask.expect is Expect.ACCEPTED and 200 <= status < 300:
            self.accepted.add(ask.key)

    def _judge_status(
        self, kind: str, expect: Expect, status: int, body: bytes, what: object
    ) -> None:
        is_yes, is_no = 200 <= status < 300, 400 <= status < 500
        self.results["unanswered" if status == 0 else expect.value if is_yes else "refused"] += 1
        good = {
            Expect.ACCEPTED: is_yes,
            Expect.ANSWERED: is_yes,
            Expect.REFUSED: is_no or status == 0,
            Expect.EITHER: is_yes or is_no or status == 0,
        }[expect]
        self._fail_unless(
            good,
            f"{kind}: {status}, but expected {expect.value}: {body[:200]!r} {repr(what)[:600]}",
        )

    def _fail_unless(self, good: object, failure: str) -> None:
        if not good and len(self.failures) < 20:
            self.failures.append(failure)

    async def _watch(self, pid: int) -> None:
        """Empty the stream from time to time, and note the receiver's memory."""
        while True:
            await asyncio.sleep(0.2)
            if not self.rss_early and self.count >= self.requests // 10:
                self.rss_early = rss_of(pid)
            await asyncio.to_thread(self._collect)

    def _collect(self) -> None:
        """Remove the entries from the stream, and remember their sources and bodies."""
        with redis.Redis.from_url(self.server.url) as client:
            while True:
                found: Any = client.xrange("fuzz:{0}:stream", count=2_000)
                if not found:
                    return
                for _, fields in found:
                    self.stored.add(key_of(about_of(fields).source, fields[b"body"]))
                self.entries += len(found)
                client.xdel("fuzz:{0}:stream", *(entry for entry, _ in found))

    def _verdict(self, receiver: Program, seconds: float, rss_late: int) -> Verdict:
        signed = set[bytes]().union(*(maker.signed for maker in self.makers))
        forged, missing = self.stored - signed, self.accepted - self.stored
        self._fail_unless(not forged, f"{len(forged)} stored without having been signed")
        self._fail_unless(not missing, f"{len(missing)} accepted but not stored")
        grown = rss_late - self.rss_early
        self._fail_unless(
            grown <= max(GROWTH, self.rss_early // 10), f"the receiver grew by {grown} KiB"
        )
        lines, refusals = self._read_log(receiver, seconds)
        return Verdict(
            requests=self.count,
            genuine=self.results["accepted"],
            handshakes=self.results["answered"],
            refused=self.results["refused"],
            unanswered=self.results["unanswered"],
            stored=self.entries,
            seconds=seconds,
            rate=round(self.count / seconds),
            rss_early=self.rss_early,
            rss_late=rss_late,
            log_lines=lines,
            refusal_lines=refusals,
            failures=self.failures,
        )

    def _read_log(self, receiver: Program, seconds: float) -> tuple[int, int]:
        """Check the log. Return the number of its lines, and of those about refused requests, which
        are limited to some lines of each kind per second.
        """
        lines, kinds = 0, Counter[tuple[str, ...]]()
        with receiver.log_path.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                lines += 1
                self._fail_unless(len(line) < 2_000, f"a line of {len(line)}: {line[:300]}")
                words = _words(line)
                self._fail_unless(words is not None, f"not a line of the log: {line[:300]}")
                self._fail_unless("Traceback" not in line, f"a traceback: {line[:600]}")
                if words is None:
                    continue
                level = words.get("level")
                self._fail_unless(level not in {"error", "critical"}, f"an error: {line[:600]}")
                if words.get("event") != "accepted":
                    event = str(words.get("event", ""))[:20]
                    kinds[event, str(words.get("source")), str(words.get("code"))] += 1
        for kind, count in kinds.items():
            most = PER_SECOND * (int(seconds) + 3)
            self._fail_unless(count <= most, f"{count} lines of {kind}, at most {most} are allowed")
        for secret in [sender.secret for sender in self.senders] + [VERIFY_TOKEN]:
            is_shown = secret.encode() in receiver.log_path.read_bytes()
            self._fail_unless(not is_shown, "a secret is in the log")
        return lines, kinds.total()


def _words(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class Wire:
    """A connection on which the run writes raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()

    async def answer(self, *, is_head: bool) -> tuple[int, bytes, bool]:
        """Read one answer. Return its status, its body, and whether the connection stays open."""
        async with asyncio.timeout(TIME_LIMIT):
            while True:
                head = await self._reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                if status >= 200:
                    break
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            count = int(length[1]) if length and not is_head else 0
            body = await self._reader.readexactly(count)
        return status, body, b"\r\nConnection: close" not in head

    async def answers(self, *, waits: bool) -> list[tuple[int, bytes]]:
        """Read until the receiver closes the connection. Return the status of each answer, with all
        that was read. Without `waits`, close our side after a moment, because the receiver may wait
        for the rest of the request.
        """
        found = b""
        try:
            if not waits:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        found = await self._reader.read(65_536)
                self._end()
            async with asyncio.timeout(TIME_LIMIT):
                while chunk := await self._reader.read(65_536):
                    found += chunk
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            # The connection was reset, because the receiver closed it without reading all bytes.
        return [(int(one), found) for one in _statuses(found)]

    def _end(self) -> None:
        if not self._writer.is_closing():
            self._writer.write_eof()


def _statuses(found: bytes) -> Iterator[bytes]:
    return (match[1] for match in re.finditer(rb"HTTP/1\.[01] ([2-5]\d\d) ", found))


def rss_of(pid: int) -> int:
    """Return a process's resident memory in KiB."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():  # a small container image has no `ps`
        return int(status.read_text().partition("VmRSS:")[2].split()[0])
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
    return int(said.stdout)


def main() -> int:
    """Run it from the command line. Exit 1 if the receiver did anything wrong."""
    parser = argparse.ArgumentParser(description="The fuzz run.")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--server", choices=list(server_binaries()), default="valkey")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    fuzz = Fuzz(
        folder,
        requests=given.requests,
        seed=given.seed,
        binary=server_binaries()[given.server],
    )
    verdict = asyncio.run(fuzz.run())
    for name, value in verdict._asdict().items():
        if name != "failures":
            print(f"{name:>12}  {value:.0f}" if name == "seconds" else f"{name:>12}  {value}")
    print(f"{'kinds':>12}  {dict(fuzz.kinds.most_common())}")
    for failure in verdict.failures:
        print(f"{'failure':>12}  {failure}")
    if verdict.failures:
        print(f"{'log':>12}  {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
