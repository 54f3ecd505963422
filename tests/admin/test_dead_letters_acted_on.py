"""Dead letters replayed and dropped: what happens, how far it has come, and at which rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
import redis

from hookmill.admin import dead_letters as module
from hookmill.admin.dead_letters import NoSuchDeadLetterError, Tally, find, select
from hookmill.admin.filters import EVERYTHING
from hookmill.errors import StreamUnavailableError
from hookmill.message import Message, Progress
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import AGAIN, Settlement
from hookmill.stream.producer import Producer
from tests.admin.selecting import drop, followed, listed, of_filter, of_ids, replay
from tests.given_up import GiveUp, OpenGroup, as_dead_letter
from tests.support import dead_letters, message


async def test_a_replayed_message_runs_again_for_its_handler_with_a_fresh_count(
    letters: DeadLetters, give_up: GiveUp, open_group: OpenGroup
) -> None:
    sent = message(b'{"a": 1}', id="msg_1")
    (dead_id,) = await give_up(sent)

    assert await replay(letters, of_ids(dead_id, dead_id)) == (1, 1)

    assert await letters.count() == 0
    group = await open_group("c2")
    (entry,) = (await group.take(10)).entries
    assert entry.ref.key_number == AGAIN
    assert Message.from_fields(entry.fields) == sent
    progress = Progress.from_fields(entry.fields, "")
    assert (progress.handler, progress.attempts, progress.failed_ms) == ("send", 0, 0)
    assert b"error" not in entry.fields
    await group.settle([Settlement(entry.ref)])


async def test_all_are_replayed_page_by_page(
    letters: DeadLetters,
    give_up: GiveUp,
    open_group: OpenGroup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST_PAGE", 2)
    await give_up(*(message(id=f"msg_{number}") for number in range(5)))
    assert len(await listed(letters)) == 5

    seen: list[Tally] = []
    assert await followed((await select(letters, EVERYTHING)).replay(), seen) == (5, 5)

    assert [one.looked_at for one in seen if one.looked_at] == [2, 2, 2, 4, 4, 4, 5]
    group = await open_group("c2")
    entries = (await group.take(10)).entries
    assert [entry.fields[b"id"] for entry in entries] == [b"msg_%d" % n for n in range(5)]
    await group.settle(Settlement(entry.ref) for entry in entries)
    assert await replay(letters) == (0, 0)


async def test_what_is_dropped_is_gone_and_the_rest_stays(
    letters: DeadLetters, give_up: GiveUp, stream: Producer, emptied: Callable[[], None]
) -> None:
    first, second, third = await give_up(*(message() for _ in range(3)))

    assert await drop(letters, of_ids(first, third, first)) == (2, 2)

    assert [letter.id for letter in await dead_letters(stream)] == [second]
    emptied()


async def test_an_unknown_id_is_reported_after_the_others_are_done(
    letters: DeadLetters, give_up: GiveUp, emptied: Callable[[], None]
) -> None:
    first, second = await give_up(message(), message())

    for tallies in (
        (await select(letters, of_ids(first, "5-1"))).replay(),
        (await select(letters, of_ids("5-1", second))).drop(),
    ):
        seen: list[Tally] = []
        with pytest.raises(NoSuchDeadLetterError, match="1 of these IDs not found"):
            await followed(tallies, seen)
        assert seen[-1] == Tally(looked_at=2, tried=2, done=1)
    with pytest.raises(NoSuchDeadLetterError, match="no dead letter 5-1 in group main"):
        await find(letters, "5-1", group="main")

    assert await letters.count() == 0
    emptied()


async def test_a_replay_of_all_does_not_chase_what_dies_again_meanwhile(
    letters: DeadLetters,
    give_up: GiveUp,
    open_group: OpenGroup,
    monkeypatch: pytest.MonkeyPatch,
    redis_client: redis.Redis,
) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    await give_up(*(message(id=f"msg_{number}") for number in range(3)))
    group = await open_group("c2")
    original = DeadLetters.replay

    async def and_die_again(self: DeadLetters, dead_ids: Sequence[str]) -> int:
        replayed = await original(self, dead_ids)
        for entry in (await group.take(10)).entries:
            await group.settle([as_dead_letter(entry)])
        return replayed

    monkeypatch.setattr(DeadLetters, "replay", and_die_again)

    assert await replay(letters) == (3, 3)
    assert await letters.count() == 3
    redis_client.delete(group.partitions[0].dead)


async def test_what_dies_after_the_selection_does_not_belong_to_it(
    letters: DeadLetters, give_up: GiveUp, stream: Producer, emptied: Callable[[], None]
) -> None:
    first = await give_up(message(type="post.published"), message(type="order.paid"))
    selected = await select(letters, of_filter(type="post.*"))
    *_, late = await give_up(message(type="post.late"))

    assert await selected.count() == 1
    assert await followed(selected.drop()) == (1, 1)

    assert [letter.id for letter in await dead_letters(stream)] == [first[1], late]
    emptied()


async def test_the_last_tally_is_right_even_when_redis_goes_away_in_between(
    letters: DeadLetters,
    give_up: GiveUp,
    emptied: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST_PAGE", 1)
    await give_up(*(message() for _ in range(3)))
    original, calls = DeadLetters.replay, []

    async def once(self: DeadLetters, dead_ids: Sequence[str]) -> int:
        calls.append(dead_ids)
        if len(calls) == 2:
            raise StreamUnavailableError("gone")
        return await original(self, dead_ids)

    monkeypatch.setattr(DeadLetters, "replay", once)
    seen: list[Tally] = []
    with pytest.raises(StreamUnavailableError):
        await followed((await select(letters, EVERYTHING)).replay(), seen)

    assert seen[-1] == Tally(looked_at=1, tried=2, done=1)
    emptied()


async def test_a_replay_keeps_to_its_rate(
    letters: DeadLetters,
    give_up: GiveUp,
    emptied: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await give_up(*(message() for _ in range(5)))
    steps: list[int] = []
    original = DeadLetters.replay

    async def noted(self: DeadLetters, dead_ids: Sequence[str]) -> int:
        steps.append(len(dead_ids))
        return await original(self, dead_ids)

    monkeypatch.setattr(DeadLetters, "replay", noted)
    before = time.monotonic()
    await replay(letters, rate=20)

    assert steps == [2, 2, 1]
    assert time.monotonic() - before >= 0.2  # a lower bound: no machine is too slow for it
    emptied()
