"""What may be shown, by the settings and by what receivers have noted in Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hookmill.admin.body_paths import condition_of
from hookmill.admin.dead_letters import describe, find, page, select
from hookmill.admin.filters import DeadLetterFilter, Selection
from hookmill.admin.redactions import (
    NOT_LOOKED_UP,
    SearchRefusedError,
    Showable,
    shown,
    shown_without_redis,
)
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from hookmill.stream.redactions import Redactions
from tests.given_up import GiveUp
from tests.support import message

BODY = b'{"data":{"email":"ada@example.com","n":1}}'


async def test_table_and_note_count_together_so_that_no_table_is_needed(
    settings: Callable[..., Settings], stream: Producer
) -> None:
    await Redactions(stream.client).note({"shop": ("a", "b"), "bank": ("c",)})
    assert (await shown(settings())).paths == {"shop": ("a", "b"), "bank": ("c",)}
    tables = {"shop": SourceOptions(redact=("b", "d")), "plain": SourceOptions()}
    there = settings(sources=tables)
    assert (await shown(there)).paths == {"shop": ("b", "d", "a"), "bank": ("c",)}
    assert shown_without_redis(there).paths == {"shop": ("b", "d")}


async def test_a_dead_letter_is_shown_without_what_is_hidden(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer
) -> None:
    headers = b"X-Customer: ada\r\nContent-Type: application/json"
    (dead_id,) = await give_up(message(BODY, source="shop", header_block=headers))
    letter = await find(DeadLetters(stream.client, "main"), dead_id, group="main")

    seen = describe(
        letter, whole=True, shown=Showable({"shop": ("data.email", "header:x-customer")})
    )
    assert seen["body"] == '{"data":{"email":"[redacted]","n":1}}'
    assert seen["headers"] == "X-Customer: [redacted]\r\nContent-Type: application/json"

    assert describe(letter, whole=True, shown=Showable())["body"] == BODY.decode()
    emptied()


async def test_dead_letters_are_not_searched_for_what_is_hidden(
    give_up: GiveUp, emptied: Callable[[], None], stream: Producer
) -> None:
    await Redactions(stream.client).note({"shop": ("data.email",)})
    (dead_id,) = await give_up(message(BODY, source="shop"))
    letters = DeadLetters(stream.client, "main")
    for asked in ("data.email=ada@example.com", "data[0].email~a*", '["data.email"]=a', "[0]=1"):
        wanted = DeadLetterFilter(where=(condition_of(asked),))
        with pytest.raises(SearchRefusedError, match="source shop redacts it"):
            await page(letters, wanted)
        with pytest.raises(SearchRefusedError, match="source shop redacts it"):
            await (await select(letters, Selection(filter=wanted))).count()
    wanted = DeadLetterFilter(where=(condition_of("data.n=1"),))
    assert [one.id for one in (await page(letters, wanted)).rows] == [dead_id]
    emptied()


def test_nothing_is_shown_before_anybody_has_looked_what_may_be() -> None:
    one = message(BODY, header_block=b"X-Customer: ada")
    assert b"ada" not in NOT_LOOKED_UP.body(one)
    assert NOT_LOOKED_UP.headers(one) == b""
    assert NOT_LOOKED_UP.body(message(b"")) == b""


def test_a_search_is_refused_where_its_answer_could_tell_what_is_hidden() -> None:
    known = Showable({"shop": ("data.email",)})
    for source in (None, "shop", "sh*"):
        for path in ("data.email", "data", "Data.0.Email"):
            with pytest.raises(SearchRefusedError, match=f"{path}: source shop redacts it"):
                known.check_search(path.split("."), source)
    known.check_search(["data", "email"], "bank")
    known.check_search(["data", "name"])
