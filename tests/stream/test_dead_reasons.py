"""Dead letters are counted by reason as they come and go, and counted again where that is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hookmill.stream import dead_reasons
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.dead_reasons import OTHER, OWN_REASONS, UNKNOWN, DeadReasons, reasons_of
from hookmill.stream.inspector import Inspector
from hookmill.stream.keys import GroupKeys, Keys
from hookmill.stream.producer import Producer
from hookmill.stream.script_runner import script_text
from tests.given_up import GiveUp
from tests.support import message

pytestmark = pytest.mark.one_server


async def seen(stream: Producer) -> dict[str, int]:
    return (await Inspector(stream.client).group("main")).dead_reasons


async def test_they_are_counted_where_they_come_and_where_they_go(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    await give_up(message(), message(), reason="failed")
    ids = await give_up(message(), message(), reason="no such customer")
    assert await seen(stream) == {"failed": 2, "no such customer": 2}
    letters = DeadLetters(stream.client, "main")
    assert await letters.drop([ids[0], ids[0], "1-1"]) == 1
    assert await letters.replay([ids[2], "1-1"]) == 1
    assert await seen(stream) == {"failed": 1, "no such customer": 1}
    keys = stream.partitions[0].of_group("main")
    before = redis_client.hgetall(keys.dead_reasons)
    assert not await DeadReasons(stream.client, "main").mend()
    assert redis_client.hgetall(keys.dead_reasons) == before
    assert await letters.drop(ids) == 2
    assert await seen(stream) == {}
    assert redis_client.hgetall(keys.dead_reasons) == {b"newest": ids[-1].encode()}
    emptied()


async def test_what_an_older_release_wrote_is_unknown_until_it_is_counted(
    give_up: GiveUp,
    emptied: Callable[[], None],
    stream: Producer,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await give_up(message(), reason="failed")
    keys = stream.partitions[0].of_group("main")
    for number in range(9):
        redis_client.xadd(keys.dead, {"reason": "old" if number % 3 else "failed"})
    assert await seen(stream) == {UNKNOWN: 9, "failed": 1}
    monkeypatch.setattr(dead_reasons, "STEP_MESSAGES", 2)
    monkeypatch.setattr(dead_reasons, "STEPS", 2)
    assert await DeadReasons(stream.client, "main").mend()
    assert redis_client.hget(keys.dead_recount, "cursor") is not None
    assert await seen(stream) == {UNKNOWN: 9, "failed": 1}
    for _ in range(2):  # another worker goes on, as after a kill -9
        await DeadReasons(stream.client, "main").mend()
    assert await seen(stream) == {"old": 6, "failed": 4}
    assert not redis_client.exists(keys.dead_recount)
    emptied()


async def test_what_an_older_release_removed_is_no_longer_counted(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    await give_up(*[message() for _ in range(5)], reason="failed")
    *_, last = await give_up(message(), reason="crashed")
    redis_client.xdel(stream.partitions[0].of_group("main").dead, last)
    assert await seen(stream) == {"failed": 4, UNKNOWN: 1}
    await DeadReasons(stream.client, "main").mend()
    assert await seen(stream) == {"failed": 5}
    emptied()


@pytest.mark.since_7_0
async def test_one_that_an_older_release_added_in_place_of_another_is_noticed(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    (dead_id,) = await give_up(message(), reason="failed")
    dead = stream.partitions[0].of_group("main").dead
    redis_client.xdel(dead, dead_id)
    redis_client.xadd(dead, {"reason": "crashed"})
    await DeadReasons(stream.client, "main").mend()
    assert await seen(stream) == {"crashed": 1}
    emptied()


async def test_one_of_an_older_release_before_a_counted_one_is_noticed_in_place_of_another(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    (dead_id,) = await give_up(message(), reason="failed")
    dead = stream.partitions[0].of_group("main").dead
    redis_client.xdel(dead, dead_id)
    redis_client.xadd(dead, {"reason": "crashed"})
    await give_up(message(), reason="failed")
    await DeadReasons(stream.client, "main").mend()
    assert await seen(stream) == {"crashed": 1, "failed": 1}
    emptied()


async def test_one_that_an_older_release_added_and_this_one_dropped_is_noticed(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    first, _, _ = await give_up(message(), message(), message(), reason="failed")
    await give_up(message(), reason="crashed")
    dead = stream.partitions[0].of_group("main").dead
    redis_client.xdel(dead, first)
    older: Any = redis_client.xadd(dead, {"reason": "crashed"})
    assert await DeadLetters(stream.client, "main").drop([older.decode()]) == 1
    await DeadReasons(stream.client, "main").mend()
    assert await seen(stream) == {"failed": 2, "crashed": 1}
    emptied()


async def test_a_wrong_count_is_noticed_also_where_the_next_one_makes_up_for_it(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    (first,) = await give_up(message(), reason="of a handler")
    dead = stream.partitions[0].of_group("main").dead
    older: Any = redis_client.xadd(dead, {"reason": "of another"})
    redis_client.xdel(dead, first)
    assert await DeadLetters(stream.client, "main").drop([older.decode()]) == 1
    await give_up(message(), reason="of another")
    await DeadReasons(stream.client, "main").mend()
    assert await seen(stream) == {"of another": 1}
    emptied()


async def test_the_counts_are_compared_without_a_copy_of_a_large_body(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    await give_up(message(b"x" * 3_000_000), message(b"x" * 3_000_000))
    redis_client.config_resetstat()
    assert not await DeadReasons(stream.client, "main").mend()
    copying: Any = redis_client.info("commandstats")
    assert "cmdstat_xrange" in copying
    assert not any(name.startswith("cmdstat_xinfo") for name in copying)
    emptied()


async def test_a_slow_redis_ends_a_run_early(
    give_up: GiveUp,
    emptied: Callable[[], None],
    stream: Producer,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await give_up(message(), message())
    redis_client.delete(stream.partitions[0].of_group("main").dead_reasons)
    monkeypatch.setattr(dead_reasons, "STEP_MESSAGES", 1)
    monkeypatch.setattr(dead_reasons, "SECONDS", 0.0)
    assert await DeadReasons(stream.client, "main").mend()
    keys = stream.partitions[0].of_group("main")
    assert redis_client.hget(keys.dead_recount, "=failed") == b"1"
    emptied()


async def test_reasons_of_handlers_are_bounded_and_ours_are_not_crowded_out(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer, redis_client: redis.Redis
) -> None:
    await give_up(message(), reason="failed")
    dead = stream.partitions[0].of_group("main").dead
    for number in range(60):
        redis_client.xadd(dead, {"reason": f"order {number}"})
    redis_client.xadd(dead, {"reason": "crashed"})
    redis_client.xadd(dead, {"reason": "x" * 101})
    await DeadReasons(stream.client, "main").mend()
    found = await seen(stream)
    assert len(found) < 53
    assert found[OTHER] == 60 + 1 - (len(found) - 3)
    assert (found["crashed"], found["failed"]) == (1, 1)
    letters = DeadLetters(stream.client, "main")
    while page := await letters.survey("0-0", "+", 20):
        await letters.drop([letter.id for letter in page])
        now = await seen(stream)
        assert UNKNOWN not in now
        assert sum(now.values()) == await letters.count()
    emptied()


def test_the_scripts_know_our_reasons() -> None:
    (listed,) = re.findall(r"gmatch\(('.*?), '%S", script_text("reason_counts"), re.DOTALL)
    assert set(re.findall(r"\w\w+", listed)) == {*OWN_REASONS, OTHER}


fields = st.one_of(st.sampled_from([b"=failed", b"=unknown", b"rest", b"newest"]), st.binary())


@given(st.dictionaries(fields, st.integers(-50, 50)), st.integers(0, 100))
def test_what_is_shown_is_never_negative_and_always_all(
    counted: dict[bytes, int], length: int
) -> None:
    flat = [word for field, number in counted.items() for word in (field, b"%d" % number)]
    found = reasons_of(length, flat)
    assert sum(found.values()) == length
    assert all(number > 0 for number in found.values())


# --- a model of all that adds, removes and counts, in any order -----------------------------------

ADD = """
local dead_key = KEYS[1]
--PART
local id = redis.call('XADD', dead_key, '*', 'reason', ARGV[1])
note_dead(id, ARGV[1])
keep_dead()
return id
""".replace("--PART", script_text("reason_counts"))


class Model:
    """The dead letters that there are, and what the scripts make of them."""

    def __init__(self, client: redis.Redis, keys: GroupKeys, at_once: int) -> None:
        self._client = client
        self._keys = keys
        self._at_once = at_once
        self._letters: dict[Any, str] = {}
        self.is_mixed = False
        client.delete(keys.dead, keys.dead_reasons, keys.dead_recount)

    def add(self, number: int) -> None:
        reason = f"r{number % 3}"
        self._letters[self._run(ADD, [self._keys.dead], reason)] = reason

    def drop(self, number: int) -> None:
        some = self._one(number)
        self._run(script_text("drop"), [self._keys.dead, self._keys.owners], some)
        self._letters.pop(some, None)

    def old_add(self, number: int) -> None:
        reason = f"r{number % 3}"
        self._letters[self._client.xadd(self._keys.dead, {"reason": reason})] = reason
        self.is_mixed = True

    def old_drop(self, number: int) -> None:
        some = self._one(number)
        self._client.xdel(self._keys.dead, some)
        self._letters.pop(some, None)
        self.is_mixed = True

    def recount(self, _: int = 0) -> bool:
        text = script_text("recount_dead")
        return bool(self._run(text, [self._keys.dead], self._at_once, 10**6))

    def shown(self) -> dict[str, int]:
        names = [self._keys.dead, self._keys.dead_reasons]
        return reasons_of(*self._run(script_text("count_dead"), names))

    def expected(self) -> Counter[str]:
        return Counter(self._letters.values())

    def _one(self, number: int) -> Any:
        return sorted(self._letters)[number % len(self._letters)] if self._letters else b"1-1"

    def _run(self, text: str, names: list[str], *args: Any) -> Any:
        return self._client.eval(text, len(names), *names, *args)


def test_what_leaves_while_they_are_counted_again_is_not_counted(
    prefix: str, redis_client: redis.Redis
) -> None:
    keys = Keys(prefix).of_group("main")
    model = Model(redis_client, keys, at_once=2)
    for number in range(6):
        model.old_add(number)
    assert model.recount()  # it has read r0 and r1
    for number in (0, 4):
        model.drop(number)  # one that was read, and one that was not
    while model.recount():
        pass
    assert model.shown() == model.expected()
    redis_client.delete(keys.dead, keys.dead_reasons)


KINDS = ("add", "add", "old_add", "drop", "drop", "old_drop", "recount")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), max_size=60), st.integers(1, 4)
)
@example([("add", 0), ("old_add", 1), ("old_drop", 0), ("drop", 0), ("add", 1)], 1)
def test_the_counts_are_right_whatever_happens_meanwhile(
    prefix: str, redis_client: redis.Redis, steps: list[tuple[str, int]], at_once: int
) -> None:
    keys = Keys(prefix).of_group("main")
    model = Model(redis_client, keys, at_once)
    for kind, number in steps:
        getattr(model, kind)(number)
        if not model.is_mixed:
            assert model.shown() == model.expected()
        assert sum(model.shown().values()) == model.expected().total()
    for _ in range(3):  # one recount may have been overtaken: the next one begins anew
        while model.recount():
            pass
    assert model.shown() == model.expected()
    redis_client.delete(keys.dead, keys.dead_reasons)
