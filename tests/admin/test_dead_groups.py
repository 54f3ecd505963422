"""Dead letters in pages and in groups of the same error, on real servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill.admin import dead_groups as module
from hookmill.admin.body_paths import condition_of
from hookmill.admin.dead_groups import GroupsSoFar, describe_group, groups
from hookmill.admin.dead_letters import MOST_LOOKED_AT, NoSuchDeadLetterError, page
from hookmill.admin.filters import DeadLetterFilter
from hookmill.admin.fingerprints import kind_of
from hookmill.stream.dead_letters import LARGEST_PAGE, DeadLetters
from tests.admin.selecting import counted, listed, of_filter, replay
from tests.given_up import GiveUp
from tests.support import message


async def all_of(
    letters: DeadLetters, wanted: DeadLetterFilter | None = None, most: int | None = None
) -> GroupsSoFar:
    *_, found = [one async for one in groups(letters, wanted, most=most)]
    return found


async def test_dead_letters_of_the_same_error_are_a_group_and_the_newest_error_comes_first(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    *_, oldest = await give_up(message(type="a"), error="x\nKeyError: 'o1'", died_ms=1000)
    *_, middle = await give_up(message(type="b"), error="y\nValueError: no order 1")
    *_, newest = await give_up(message(type="c"), error="y\nKeyError: 'o2'", died_ms=61_000)

    found = await all_of(letters)

    assert (found.is_complete, found.looked_at) == (True, 3)
    first, second = map(describe_group, found.groups)
    assert first == {
        "fingerprint": first["fingerprint"],
        "count": 2,
        "newest_died_at": "1970-01-01T00:01:01.000+00:00",
        "oldest_died_at": "1970-01-01T00:00:01.000+00:00",
        "error": "KeyError: '*'",
        "frame": "",
        "reason": "failed",
        "handler": "send",
        "source": "qstash",
        "type": "c",
        "example": {"id": newest, "error": "KeyError: 'o2'"},
    }
    assert (second["count"], second["example"]["id"]) == (1, middle)
    of_first = of_filter(error=first["fingerprint"])
    assert await listed(letters, of_first) == [oldest, newest]
    assert await replay(letters, of_first) == (2, 2)
    assert await listed(letters) == [middle]
    emptied()


@pytest.mark.one_server
async def test_a_walk_ends_where_it_is_told_and_says_what_it_left_out(
    letters: DeadLetters,
    give_up: GiveUp,
    emptied: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_GROUPS", 1)
    await give_up(message(), message(), error="KeyError: 'a'")
    await give_up(message(), error="ValueError: 'a'")

    found = await all_of(letters, most=2)
    assert (found.looked_at, found.others, found.is_complete) == (2, 1, False)
    assert (await all_of(letters)).others == 2
    assert (await all_of(letters, DeadLetterFilter(reason="no"))).groups == []
    emptied()


async def test_pages_follow_one_another_in_both_directions(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    dead_ids = await give_up(*(message(b'{"n": %d}' % n, id=f"m{n}") for n in range(5)))

    for newest_first, expected in ((True, dead_ids[::-1]), (False, dead_ids)):
        seen, cursor = [], ""
        while True:
            one = await page(letters, cursor=cursor, newest_first=newest_first, count=2)
            seen += [letter.id for letter in one.rows]
            if not (cursor := one.cursor):
                break
        assert seen == expected
        assert one.looked_at <= 2

    wanted = DeadLetterFilter(where=(condition_of("n=3"),))
    found = await page(letters, wanted, count=2)
    assert ([one.id for one in found.rows], found.looked_at) == ([dead_ids[3]], 5)
    of_key = await page(letters, DeadLetterFilter(key="k"), count=2, most=1)
    assert (of_key.rows, of_key.looked_at, of_key.cursor) == ([], 5, dead_ids[0])
    assert await counted(letters, of_filter(where=(condition_of("n=3"),))) == 1
    with pytest.raises(NoSuchDeadLetterError, match="not the ID"):
        await page(letters, cursor="- +")
    emptied()


@pytest.mark.one_server
async def test_a_page_costs_what_it_shows_and_not_what_there_is(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    await give_up(*(message(id=f"m{n}") for n in range(30)))

    assert (await page(letters, count=10)).looked_at == 10
    newest = await page(letters, DeadLetterFilter(before_ms=1), count=10)
    assert newest == ([], 0, "")
    emptied()


@pytest.mark.one_server
async def test_of_twenty_thousand_a_page_reads_what_it_shows_and_no_step_reads_many(
    letters: DeadLetters, redis_client: redis.Redis, prefix: str
) -> None:
    key = f"{prefix}:{{0}}:main:dead"
    with redis_client.pipeline(transaction=False) as batch:
        for number in range(20_000):
            error = f"{'Key' if number % 2 else 'Value'}Error: {number}"
            batch.xadd(key, {"id": f"m{number}", "handler": "h", "error": error})
        batch.execute()

    async def cost_of(steps: Awaitable[Any]) -> tuple[Any, int, int]:
        redis_client.config_resetstat()
        found = await steps
        stats: Any = redis_client.info("commandstats")
        calls = {name: row["calls"] for name, row in stats.items()}
        return found, calls["cmdstat_evalsha"], calls.get("cmdstat_xrevrange", 0)

    await page(letters)  # loads the script
    found, scripts, read = await cost_of(page(letters, count=20))
    assert (len(found.rows), scripts, read) == (20, 1, 20)
    wanted = DeadLetterFilter(error=kind_of("KeyError: 1", "h").fingerprint)
    found, scripts, read = await cost_of(page(letters, wanted, count=20))
    assert (len(found.rows), scripts, read) == (20, 1, LARGEST_PAGE)
    found, scripts, read = await cost_of(all_of(letters, most=MOST_LOOKED_AT))
    assert [group.count for group in found.groups] == [MOST_LOOKED_AT // 2] * 2
    assert not found.is_complete
    assert read == MOST_LOOKED_AT
    assert scripts == -(-MOST_LOOKED_AT // LARGEST_PAGE)
    # XREVRANGE would go through all of them where none is left.
    assert (await cost_of(page(letters, cursor=await oldest_of(letters))))[1:] == (1, 0)
    redis_client.delete(key)


async def oldest_of(letters: DeadLetters) -> str:
    return (await page(letters, newest_first=False, count=1)).rows[0].id
