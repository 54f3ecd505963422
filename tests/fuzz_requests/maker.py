"""Draws genuine requests and damages most of them."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from typing import Any

from multidict import CIMultiDict

from hookmill.signatures.presets import PRESETS
from tests.fuzz_requests.malformed import (
    BOMBS,
    HEADER_VALUES,
    METHODS,
)
from tests.fuzz_requests.model import BODY_LIMIT, LIMIT, VERIFY_TOKEN, Ask, Expect
from tests.fuzz_requests.sources import Sender
from tests.signatures.worst_bodies import makers_for

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
        return self._signed(sender, self._body_of(sender))

    def _body_of(self, sender: Sender) -> bytes:
        if sender.name != "twilio":
            return self._body()
        number = next(self._numbers)
        return b"CallSid=CA%d_%d&Digits=%d" % (self._lane, number, self._draw.randrange(10**6))

    def _large(self, sender: Sender) -> Ask:
        """Send a body that can be as large as the limit, or larger."""
        if sender.spec and not sender.covers_body and sender.spec.algorithm == "token":
            return self._genuine(sender)  # whoever has a token is known, whatever the body
        ask = self._genuine(sender)
        roll = self._draw.random()
        if roll < 0.05:
            more = BODY_LIMIT + self._draw.randrange(1, 100)
            return ask.refused(body=ask.body.ljust(more, b"x"))
        size = large_size(self._draw)
        if roll < 0.2:
            body = self._body_of(sender)
            padded = body.ljust(size - 1_000, b"x" if sender.name == "twilio" else b" ")
            return self._signed(sender, padded, expect=Expect.EITHER)
        spec = sender.spec or PRESETS["github"].spec
        _, make = self._draw.choice(list(makers_for(spec, size, time.time())))
        return ask.refused(body=make())

    def _genuine_bomb(self, sender: Sender) -> Ask:
        if sender.name in {"twilio", "linear", "mailgun"}:  # their bodies cannot be of any bytes
            return self._genuine(sender)
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
        if sender.spec and not sender.spec.signature.startswith("header:"):
            return self._stranger(sender)
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
        if sender.has_own_key or (self._draw.random() < 0.3):
            # Senders whose key pair is the same sign for each other.
            others = [one for one in self._senders if not (sender.has_own_key and one.has_own_key)]
            other = self._draw.choice([one for one in others if one is not sender])
            return self._genuine(other).refused(target=sender.path)
        return sender.delivery(self._body_of(sender), Expect.REFUSED, strange=True)

    def _bad_time(self, sender: Sender) -> Ask:
        if not sender.has_time or sender.has_own_key:
            return self._stranger(sender)
        # A QStash token of the future has a later "nbf".
        off = self._draw.choice([-1, 1]) * self._draw.uniform(2 * sender.tolerance + 60, 10**8)
        return sender.delivery(self._body_of(sender), Expect.REFUSED, off=off)

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

    LARGE_SHARE = 0.002
    """The share of large bodies: they cost so much that more would make a run much longer."""

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
        ("large", LARGE_SHARE, _large),
    )


def large_size(draw: random.Random) -> int:
    """Draw the size of a large body: each doubling up to the limit is as likely as any other."""
    return int(LIMIT * (BODY_LIMIT / LIMIT) ** draw.random())
