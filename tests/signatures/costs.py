"""What a verdict costs, measured without a clock: memory, calls, and passes over the whole body."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from hookmill.signatures.scheme import Signed

MOST_MEMORY = 40_000_000
"""Bytes that a refusal may need above the body. GitHub's needs none."""

MOST_CALLS = 100_000
"""Function calls until a refusal. One takes well below a microsecond."""

MOST_HASHED = 2
"""How often a secret may be hashed with the whole body: Twilio's URL has two spellings."""

MOST_PARSED = 6
"""How many JSON values may be parsed: the body once, and small arrays in it."""

_HASHING = {"update", "verify", "openssl_sha256", "openssl_sha1", "crc32"}


class Cost(NamedTuple):
    """The cost of one call, which gave this verdict: bytes at the peak, and numbers of calls."""

    verdict: object
    memory: int
    calls: int
    hashed: int
    parsed: int

    def beyond(self) -> list[str]:
        """Return what is more than it may be."""
        most = {
            "memory": MOST_MEMORY,
            "calls": MOST_CALLS,
            "hashed": MOST_HASHED,
            "parsed": MOST_PARSED,
        }
        return [
            f"{name}: {value:,}, at most {most[name]:,}"
            for name, value in self._asdict().items()
            if name in most and value > most[name]
        ]


def cost_of(verify: Callable[[Signed, float], object], delivery: Signed, now: float) -> Cost:
    """Call a scheme's `verify`, and count."""
    size = len(delivery.body)
    calls = hashed = parsed = 0

    def note(frame: Any, event: str, what: Any) -> None:
        nonlocal calls, hashed, parsed
        if event not in {"call", "c_call"}:
            return
        calls += 1
        if event == "c_call":
            name = getattr(what, "__name__", "")
            owner: Any = getattr(what, "__self__", None)
            hashed += name in _HASHING and _holds_large(frame, size)
            is_json = name == "decode" and isinstance(owner, msgspec.json.Decoder)
            parsed += is_json and owner.type is not str

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        sys.setprofile(note)
        try:
            verdict = verify(delivery, now)
        finally:
            sys.setprofile(None)
        memory = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return Cost(verdict, memory, calls, hashed, parsed)


def _holds_large(frame: Any, size: int) -> bool:
    """Whether a function has the body, or a content made of it, at hand when it hashes."""
    found: list[Any] = [frame.f_locals.values()]
    for one in found:
        if isinstance(one, bytes) and len(one) > size // 2:
            return True
        if not isinstance(one, bytes | str | dict) and isinstance(one, Iterable):
            found.extend(one)
    return False
