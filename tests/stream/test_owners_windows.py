"""No message ID is forgotten while the dedup window changes, or while Redis' clock steps.

The scripts run here with a clock of the test's own, years ahead of the server's, so that the server
expires nothing by itself. What has expired by the test's clock is deleted before each call.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import given
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

OWN = "local owned = own(ARGV[3], {}) close_generations()\n"
TODAY = (
    f"{CLOCK}{script_text('owners')}\n{OWN.format('packed(ARGV[4])')}"
    "return {owned and 1 or 0, this.window, #earlier, expire()}"
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

    def own(self, which: int, token: str, window: int, release: str = "today") -> Reply:
        digest = b"%016d" % which
        args: list[Any] = [self.now, window, digest, token]
        owns, *rest = self.scripts[release](keys=[self.key], args=args)
        return Reply(owns == 1, *rest)

    def step(self, seconds: int) -> None:
        """Move the clock. After a step back, each ID must be known for one window more at least."""
        self.now += seconds
        for which, known in self.known.items():
            until = known.until
            if seconds < 0:
                until = min(until, self.now + known.window)
            self.known[which] = known._replace(until=until if self.now < until else 0)

    def comes(self, which: int, window: int, release: str = "today") -> Reply:
        """A new entry with an ID: it is a duplicate if the ID has to be known."""
        self.tokens += 1
        token = f"{self.tokens}-0"
        reply = self.own(which, token, window, release)
        if which in self.known and self.known[which].until:
            assert not reply.owns, f"forgotten: {which}"
        if reply.owns:
            self._note(which, token, reply.window)
        else:
            assert which in self.known, f"never seen: {which}"
        return reply

    def runs_again(self, which: int, window: int, release: str = "today") -> Reply | None:
        """The entry that owns an ID runs again."""
        if which not in self.known:
            return None
        token = self.known[which].token
        reply = self.own(which, token, window, release)
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


@pytest.fixture
def owners(server: Server) -> Iterator[Owners]:
    with opened(server) as owners:
        yield owners


IDS, WINDOWS = st.integers(0, 5), st.integers(1, 60)
WHAT = st.sampled_from(["comes", "comes", "runs_again"])
ONWARD = st.integers(0, 40)
ANYWHERE = st.one_of(ONWARD, st.integers(-300, 300))


@given(steps=st.lists(st.tuples(WHAT, IDS, WINDOWS, ONWARD), max_size=40))
def test_while_the_window_changes_no_id_is_forgotten(
    server: Server, steps: list[tuple[str, int, int, int]]
) -> None:
    with opened(server) as owners:
        largest = 0
        for what, which, window, seconds in steps:
            owners.step(seconds)
            largest = max(largest, window)
            before = owners.last_seen.get(which)
            reply: Reply | None = getattr(owners, what)(which, window)
            if reply is None:
                continue
            assert reply.earlier <= 2
            assert reply.lasts <= 2 * largest
            if not reply.owns:
                assert before is not None
                assert owners.now - before < 2 * largest, "remembered for too long"


@given(steps=st.lists(st.tuples(WHAT, IDS, WINDOWS, ANYWHERE), max_size=40))
def test_while_the_clock_steps_no_id_is_forgotten_before_its_time_and_all_of_them_end(
    server: Server, steps: list[tuple[str, int, int, int]]
) -> None:
    with opened(server) as owners:
        largest = 0
        for what, which, window, seconds in steps:
            owners.step(seconds)
            reply: Reply | None = getattr(owners, what)(which, window)
            assert reply is None or reply.earlier < 8
            largest = max(largest, window)
            assert reply is None or reply.lasts <= 4 * largest


@given(
    window=WINDOWS,
    steps=st.lists(st.tuples(WHAT, IDS, st.sampled_from(list(RELEASES)), ONWARD), max_size=40),
)
def test_beside_workers_of_0_1_with_the_same_window_no_id_is_forgotten(
    server: Server, window: int, steps: list[tuple[str, int, str, int]]
) -> None:
    with opened(server) as owners:
        for what, which, release, seconds in steps:
            owners.step(seconds)
            getattr(owners, what)(which, window, release)


@given(
    windows=st.tuples(WINDOWS, WINDOWS),
    old=st.lists(st.tuples(WHAT, IDS, ONWARD), max_size=40),
    new=st.lists(st.tuples(WHAT, IDS, ONWARD), max_size=40),
)
def test_what_0_1_recorded_is_known_with_another_window(
    server: Server,
    windows: tuple[int, int],
    old: list[tuple[str, int, int]],
    new: list[tuple[str, int, int]],
) -> None:
    with opened(server) as owners:
        for window, release, steps in zip(windows, ("0.1", "today"), (old, new), strict=True):
            for what, which, seconds in steps:
                owners.step(seconds)
                getattr(owners, what)(which, window, release)


def test_a_changed_window_counts_from_the_next_generation_on(owners: Owners) -> None:
    owners.now -= owners.now % 3600
    assert owners.comes(1, 3600).window == 3600
    owners.step(3599)
    assert owners.comes(2, 60).window == 3600  # side by side, whichever takes
    owners.step(1)
    third = owners.comes(3, 60)
    assert third[:3] == (True, 60, 1)
    assert 3599 <= third.lasts <= 3600  # by the server's clock, which runs on
    for minute in range(59):
        owners.step(60)
        assert not owners.comes(2, 60).owns  # recorded under the old window
        assert owners.comes(100 + minute, 60).earlier == 2
    owners.step(60)
    assert owners.comes(2, 60).owns
    assert owners.comes(3, 60).earlier == 1


def test_a_look_up_asks_three_generations_at_most_however_often_the_window_gets_smaller(
    owners: Owners,
) -> None:
    owners.now -= owners.now % 3600
    owners.comes(1, 3600)
    owners.step(3600)
    assert owners.comes(2, 600).window == 600
    for which in range(3, 8):
        owners.step(600)
        reply = owners.comes(which, 60)
        assert (reply.window, reply.earlier) == (600, 2)
    owners.step(600)
    reply = owners.comes(8, 60)
    assert (reply.window, reply.earlier) == (60, 1)


def test_an_id_is_known_after_the_clock_was_set_back(owners: Owners) -> None:
    for back in (60, 3599, 3600, 7200, 5 * 3600, 365 * 86_400):
        owners.step(3 * 365 * 86_400)
        owners.comes(back, 3600)
        owners.step(-back)
        assert not owners.comes(back, 3600).owns
        owners.step(3599)
        assert not owners.comes(back, 3600).owns


def test_what_a_clock_far_ahead_recorded_does_not_stay_for_years(owners: Owners) -> None:
    owners.now += 3 * 365 * 86_400
    for which in range(200):  # several buckets
        owners.comes(which, 3600)
    owners.step(-2 * 365 * 86_400)
    assert not owners.comes(199, 3600).owns
    assert owners.comes(1000, 3600).lasts <= 2 * 3600
    owners.step(2 * 3600)
    assert owners.comes(199, 3600).owns


def test_a_small_window_after_a_large_one_begins_with_few_buckets(owners: Owners) -> None:
    owners.now -= owners.now % 36_000
    owners.comes(1, 36_000)
    owners.client.hset(owners.key, f"{owners.now // 36_000}:size", 1_600_000)
    owners.step(36_000)
    owners.comes(2, 3600)
    counts: Any = owners.client.hget(owners.key, f"{owners.now // 3600}:buckets")
    assert int(counts) == 4000
