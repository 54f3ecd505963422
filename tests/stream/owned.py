"""The owners of message IDs under a clock of the test's own, beside what has to be known of them.

The clock is years ahead of the server's, so that the server expires nothing by itself. What has
expired by the test's clock is deleted before each call.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis
from hypothesis import strategies as st

from hookmill.stream.script_runner import script_text
from tests.support import Server

BEGIN = 4_102_444_800  # the year 2100

OWNERS_0_1 = Path(__file__).with_name("owners_0_1.lua").read_text()
"""The part as it was in release 0.1. Nothing in that file may ever change."""

CLOCK = """
local owners_key, now_ms, window = KEYS[1], ARGV[1] * 1000, tonumber(ARGV[2])
local now = tonumber(ARGV[1])
local time = redis.call('TIME')
local ahead = now_ms - time[1] * 1000 - math.floor(time[2] / 1000)
local server, latest = redis, 0
local function expire()
  for _, key in ipairs(server.call('KEYS', owners_key .. '*')) do
    local left = server.call('PTTL', key) - ahead
    if left <= 0 then server.call('DEL', key) end
    latest = math.max(latest, left)
  end
  return math.floor(latest / 1000)
end
expire()
latest = 0
local redis = { call = function(command, key, ...)
  if command == 'EXPIRE' then return server.call('EXPIREAT', key, ARGV[1] + ...) end
  local reply = server.call(command, key, ...)
  return command == 'PTTL' and reply >= 0 and reply - ahead or reply
end }
"""
"""Deletes what has expired by the test's clock, and counts expiries from it."""

OWN = "local owned = own(ARGV[3], {}, ARGV[5]) close_generations()\n"
TODAY = (
    f"{CLOCK}{script_text('owners')}\n{OWN.format('packed(ARGV[4])')}"
    "return {owned and 1 or 0, (currents[ARGV[5] or ''] or this).window, #asked - 1, expire()}"
)
IN_0_1 = f"{CLOCK}{OWNERS_0_1}\n{OWN.format('ARGV[4]')}return {{owned and 1 or 0, window, 1, 0}}"
RELEASES = {"today": TODAY, "0.1": IN_0_1}


class Reply(NamedTuple):
    """Whether the entry owns its ID, the window that counts, how many generations are asked beside
    the current one, and in how many seconds the last key expires.
    """

    owns: bool
    window: int
    earlier: int
    lasts: int


class Known(NamedTuple):
    """The owner of an ID, until when it must be known (0: it may be forgotten), and its window."""

    token: str
    until: int
    window: int


class Owners:
    """The owners of IDs in Redis, beside what has to be known of them."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.scripts = {name: client.register_script(text) for name, text in RELEASES.items()}
        self.key = f"owners{secrets.token_hex(4)}"
        self.now = BEGIN
        self.tokens = 0
        self.known: dict[int, Known] = {}
        self.last_seen: dict[int, int] = {}

    def own(
        self, which: int, token: str, window: int, release: str = "today", asks: int | None = None
    ) -> Reply:
        """An entry asks for its ID. `window` is the worker's; `asks` is the source's own one."""
        digest = which.to_bytes(4) * 4
        args: list[Any] = [self.now, window, digest, token, *([] if asks is None else [asks])]
        owns, *rest = self.scripts[release](keys=[self.key], args=args)
        reply = Reply(owns == 1, *rest)
        assert asks is None or reply.window >= asks, "remembered for too short"
        return reply

    def step(self, seconds: int) -> None:
        """Move the clock. After a step back, each ID must be known for one window more at least."""
        self.now += seconds
        for which, known in self.known.items():
            until = known.until
            if seconds < 0:
                until = min(until, self.now + known.window)
            self.known[which] = known._replace(until=until if self.now < until else 0)

    def comes(
        self, which: int, window: int, release: str = "today", asks: int | None = None
    ) -> Reply:
        """A new entry with an ID: it is a duplicate if the ID has to be known."""
        self.tokens += 1
        token = f"{self.tokens}-0"
        reply = self.own(which, token, window, release, asks)
        if which in self.known and self.known[which].until:
            assert not reply.owns, f"forgotten: {which}"
        if reply.owns:
            self._note(which, token, reply.window)
        else:
            assert which in self.known, f"never seen: {which}"
        return reply

    def runs_again(
        self, which: int, window: int, release: str = "today", asks: int | None = None
    ) -> Reply | None:
        """The entry that owns an ID runs again."""
        if which not in self.known:
            return None
        token = self.known[which].token
        reply = self.own(which, token, window, release, asks)
        assert reply.owns, f"taken for its own duplicate: {which}"
        self._note(which, token, reply.window)
        return reply

    def _note(self, which: int, token: str, window: int) -> None:
        had = self.known.get(which, Known("", 0, 0))
        self.known[which] = Known(token, max(had.until, self.now + window), window)
        self.last_seen[which] = self.now


@contextmanager
def opened(server: Server) -> Iterator[Owners]:
    with redis.Redis.from_url(server.url) as client:
        owners = Owners(client)
        try:
            yield owners
        finally:
            client.delete(*client.scan_iter(f"{owners.key}*"), owners.key)


IDS, WINDOWS = st.integers(0, 5), st.integers(1, 60)
WHAT = st.sampled_from(["comes", "comes", "runs_again"])
ONWARD = st.integers(0, 40)
ANYWHERE = st.one_of(ONWARD, st.integers(-300, 300))
