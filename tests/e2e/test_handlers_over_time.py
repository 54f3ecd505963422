"""Handlers change between releases, give up, and are asked why: with whole programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import redis

from tests.e2e.line import Line, settle_down
from tests.support import wait_until

HEAD = """
import asyncio

from hookmill import Backoff, Dead, Delivery, GivenUp, Handlers, Message
from ledger import _write

handlers = Handlers()


@handlers.on("order.paid")
async def mail(delivery: Delivery[Message]) -> None:
    _write("end", f"mail_{delivery.id}", delivery.attempt)
"""

OLD = """
@handlers.on("order.paid", backoff=Backoff(first=60, factor=1))
async def pay(delivery: Delivery[Message]) -> None:
    raise RuntimeError("the bank is closed")


@handlers.on("order.lost", attempts=1)
async def search(delivery: Delivery[Message]) -> None:
    raise ValueError("not found")
"""

NEW = """
@handlers.on("order.paid", name="book", aliases=("pay",))
async def pay(delivery: Delivery[Message]) -> None:
    _write("end", f"book_{delivery.id}", delivery.attempt)


@handlers.on("order.lost", name="find", aliases=("search",))
async def search(delivery: Delivery[Message]) -> None:
    _write("end", f"find_{delivery.id}", delivery.attempt)
"""

GIVING_UP = """
@handlers.on("order.refused")
async def refuse(delivery: Delivery[Message]) -> None:
    raise Dead("unknown_account")


async def look(name: str) -> None:
    raise LookupError(name)


@handlers.on("order.lost", dead_on=(LookupError,))
async def search(delivery: Delivery[Message]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(look("north"))
        group.create_task(look("south"))


@handlers.on_dead
async def tell(given_up: GivenUp) -> None:
    _write("end", f"told_{given_up.message_id}", given_up.attempts)
    raise ConnectionError("no mail today")


@handlers.on_dead
def tell_in_a_thread(given_up: GivenUp) -> None:
    _write("end", f"{given_up.reason}_{given_up.message_id}", given_up.attempts)
"""


async def test_what_is_stored_for_a_renamed_handler_runs_once_under_its_new_name(
    line: Line, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """oban-bg/oban#1289: what is stored for a renamed handler fails for ever."""
    source = tmp_path / "ledger.py"
    (tmp_path / "note.py").write_text(source.read_text())
    head = HEAD.replace("from ledger", "from note")
    source.write_text(head + OLD)
    receiver, worker = line.receiver(), line.worker()
    lost = b'{"type": "order.lost"}'
    assert await line.send([line.order(1), line.order(2, body=lost)]) == {200: 2}
    worker.wait_for('"will run again"')
    worker.wait_for('"dead letter"')
    wait_until(lambda: line.noted() == {"mail_msg_1": 1}, what="the other handler")
    assert worker.stop() == 0
    # So that the test need not wait for the backoff of the old release.
    keys = f"{line.env['HOOKMILL_PREFIX']}:*:main:delayed"
    (delayed,) = redis_client.scan_iter(keys)
    (place,) = cast("list[bytes]", redis_client.zrange(delayed, 0, -1))
    redis_client.zadd(delayed, {place: 0})

    source.write_text(head + NEW)
    worker = line.worker(HOOKMILL_GRACE="0")
    assert "replayed 1 of 1" in line.hookmill("dead", "replay", "--all")
    line.wait_for_handled(3)
    line.wait_for_drained(redis_client)
    assert line.noted() == {"mail_msg_1": 1, "book_msg_1": 1, "find_msg_2": 1}
    assert line.hookmill("dead", "list") == "no dead letters\n"
    assert [worker.stop(), receiver.stop()] == [0, 0]


async def test_a_handler_gives_up_somebody_is_told_once_and_another_handler_takes_the_letter(
    line: Line, redis_client: redis.Redis, tmp_path: Path
) -> None:
    source = tmp_path / "ledger.py"
    (tmp_path / "note.py").write_text(source.read_text())
    source.write_text(HEAD.replace("from ledger", "from note") + GIVING_UP)
    receiver, worker = line.receiver(), line.worker()
    posts = [
        line.order(1, body=b'{"type": "order.refused"}'),
        line.order(2, body=b'{"type": "order.lost"}'),
    ]
    assert await line.send(posts) == {200: 2}
    line.wait_for_handled(4)
    told = {"told_msg_1": 1, "told_msg_2": 1, "unknown_account_msg_1": 1, "failed_msg_2": 1}
    assert line.noted() == told
    worker.wait_for('"on_dead failed"')

    shown = line.hookmill("dead", "list")
    letters = [json.loads(row) for row in line.hookmill("dead", "list", "--json").splitlines()]
    assert {one["reason"]: one["attempts"] for one in letters} == {
        "unknown_account": 1,
        "failed": 1,
    }
    assert "search (attempts: 1)  failed: LookupError: north; LookupError: south" in shown
    assert "+--" not in shown

    found = line.hookmill("dead", "replay", "--reason", "unknown_account", "--to", "mail")
    assert "replayed 1 of 1" in found
    line.wait_for_handled(5)
    settle_down()
    assert line.noted() == {**told, "mail_msg_1": 1}
    line.hookmill("dead", "drop", "--all", "--yes")
    line.wait_for_drained(redis_client)
    assert [worker.stop(), receiver.stop()] == [0, 0]
