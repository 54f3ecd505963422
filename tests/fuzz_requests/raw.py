"""Draws the bytes of one write: requests, several at once, and malformed ones."""

from __future__ import annotations

import re

from tests.fuzz_requests.maker import Maker
from tests.fuzz_requests.malformed import HEAD_GARBAGE, OTHER_PATHS, ROUGH_METHODS
from tests.fuzz_requests.model import LIMIT, Expect, Send


class RawMaker(Maker):
    """Draws also what only a raw connection can send."""

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
        sender = self._draw.choice([one for one in self._senders if one.is_body_exact])
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
