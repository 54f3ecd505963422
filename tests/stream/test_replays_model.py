"""Whatever happens while a replay looks at what is unfinished, no message is in a group twice."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from hookmill.stream import unfinished as module
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import Entry, FollowUp
from hookmill.stream.producer import Producer
from hookmill.stream.replays import Limits, Replays
from hookmill.stream.unfinished import UnfinishedWork
from tests.stream.ordering import again, dead, send, settled
from tests.stream.toolkit import all_taken_over
from tests.support import Server, Stream

LIVE = """
local found = {}
local function add(fields)
  local token, handler = '', ''
  for i = 1, #fields, 2 do
    if fields[i] == 'owner' then token = fields[i + 1] end
    if fields[i] == 'handler' then handler = fields[i + 1] end
  end
  found[#found + 1] = token .. '/' .. handler
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do add(entry[2]) end
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do add(entry[2]) end
for _, packed in ipairs(redis.call('HVALS', KEYS[3])) do add(cmsgpack.unpack(packed)) end
for _, key in ipairs(redis.call('HKEYS', KEYS[4])) do
  for _, packed in ipairs(redis.call('LRANGE', KEYS[5] .. ':' .. key, 0, -1)) do
    add(cmsgpack.unpack(packed)[2])
  end
end
for _, row in ipairs(redis.call('XPENDING', KEYS[6], 'main', '-', '+', 1000)) do
  found[#found + 1] = row[1] .. '/'
end
return found
"""
"""Reads the owner token and the handler of all that a group has unfinished and delivered."""


class Model:
    """Two workers and an operator, and what the test knows of their messages."""

    def __init__(self, stream: Producer, client: redis.Redis) -> None:
        self.stream = stream
        self.client = client
        self.workers = [
            Consumer(stream.client, "main", f"w{n}", dedup_window=3600) for n in range(2)
        ]
        self.letters = DeadLetters(stream.client, "main")
        self.replays = Replays(stream.client, "main")
        self.in_hand: list[tuple[Consumer, Entry]] = []
        self.sent = 0
        self.done: Counter[bytes] = Counter()

    async def do(self, what: str, which: int) -> None:
        match what:
            case "send":
                self.sent += 1
                await send(self.stream, f"{'ab'[which % 2]}-{self.sent}" if which else "free")
            case "take":
                group = self.workers[which % 2]
                self.in_hand += [(group, entry) for entry in (await group.take(2)).entries]
            case "take over":
                self.in_hand = []
                async for taken in all_taken_over(self.workers[which % 2]):
                    self.in_hand += [(self.workers[which % 2], one) for one in taken.entries]
            case "release":
                await self.workers[which % 2].release(10)
            case "replay dead":
                found = await self.letters.survey("0-0", "+", 2)
                await self.letters.replay([letter.id for letter in found])
            case _:
                await self.settle(what, which)
        self.check()

    async def settle(self, what: str, which: int) -> None:
        if not self.in_hand:
            return
        group, entry = self.in_hand.pop(which % len(self.in_hand))
        handler = entry.fields.get(b"handler", b"").decode()
        follow_ups: dict[str, tuple[FollowUp, ...]] = {
            "done": (),
            "dead": (dead(entry),),
            "again": (again(entry, handler),),
            "delay": (again(entry, handler, delay_ms=1),),
            "fan out": tuple(again(entry, one) for one in ([handler] if handler else "xy")),
        }
        if not await group.settle([settled(entry, *follow_ups[what])]) and what == "done":
            self.done[entry.owner] += 1

    def live(self) -> list[str]:
        keys = self.workers[0].partitions[0]
        used = [keys.again, keys.dead, keys.delayed_entries, keys.busy, keys.parked, keys.stream]
        found: Any = self.client.eval(LIVE, len(used), *used)
        return [one.decode() for one in found]

    def is_live(self, token: bytes) -> bool:
        return any(one.startswith(f"{token.decode()}/") for one in self.live())

    def check(self) -> None:
        """No message is there twice for one handler, nor whole beside an entry of one handler."""
        live = self.live()
        assert len(set(live)) == len(live), live
        whole = {one.partition("/")[0] for one in live if one.endswith("/")}
        assert not [one for one in live if not one.endswith("/") and one.partition("/")[0] in whole]

    async def replay(self, tokens: set[bytes], last: str, run: str) -> list[str]:
        """Replay all that is not among the tokens; return their IDs."""
        found = await self.replays.survey(0, "-", last, 1000, whole=False)
        ids = [entry.id for entry in found if entry.id.encode() not in tokens]
        if ids:
            state, progress = await self.replays.step(
                0, "r", run, ids, before="-", after=ids[-1], unfinished=0, handler="",
                limits=Limits(), acts=True,
            )  # fmt: skip
            assert (state, progress.unfinished, progress.gone) == ("went on", 0, 0)
        return ids

    async def finish(self) -> None:
        await self.do("take over", 0)
        while self.live():
            while self.in_hand:
                await self.settle("done", 0)
            await self.do("release", 0)
            await self.do("replay dead", 0)
            await self.do("take", 0)


@asynccontextmanager
async def modelled(server: Server) -> AsyncIterator[Model]:
    prefix = f"model{secrets.token_hex(4)}"
    stream = Stream(server.url, prefix)
    with redis.Redis.from_url(server.url) as client:
        model = Model(stream, client)
        await model.workers[0].open()
        try:
            yield model
        finally:
            client.delete(*client.scan_iter(f"{prefix}:*"))
            for group in model.workers:
                await group.close()
            await stream.close()


STEP = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["take", "take", "take over", "release"]), st.integers(0, 1)),
    st.tuples(
        st.sampled_from(["done", "done", "again", "delay", "dead", "fan out", "replay dead"]),
        st.integers(0, 5),
    ),
)


@given(
    before=st.lists(STEP, max_size=30),
    meanwhile=st.lists(st.lists(STEP, max_size=4), max_size=15),
    after=st.lists(STEP, max_size=10),
)
async def test_only_what_is_finished_is_replayed_whatever_moves_meanwhile(
    server: Server,
    before: list[tuple[str, int]],
    meanwhile: list[list[tuple[str, int]]],
    after: list[tuple[str, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_STEP", 1)
        patched.setattr(module, "_NAMES", 1)
        async with modelled(server) as model:
            for what, which in before:
                await model.do(what, which)
            was_done = {token for token in model.done if not model.is_live(token)}
            looked = UnfinishedWork(model.stream.client, "main", "run")
            steps = iter(meanwhile)
            async for _ in looked.look():
                for what, which in next(steps, []):
                    await model.do(what, which)
            for what, which in after:
                await model.do(what, which)
            done = model.done.copy()
            replayed = await model.replay(looked.tokens[0], looked.last[0], "run")
            model.check()
            assert was_done <= {one.encode() for one in replayed}
            await model.finish()
            for token in map(str.encode, replayed):
                assert model.done[token] > done[token] or token not in done  # a duplicate
