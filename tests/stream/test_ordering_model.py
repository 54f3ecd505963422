"""Whatever happens to messages with ordering keys, against a model of them."""

from __future__ import annotations

import secrets
from typing import Any

import redis
from hypothesis import given
from hypothesis import strategies as st

from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Taken
from hookmill.stream.producer import Producer
from tests.stream.ordering import (
    again,
    aside,
    dead,
    send,
    settled,
)
from tests.stream.toolkit import all_taken_over
from tests.support import Server, Stream


class Model:
    """Three workers, and what the tests know of their messages."""

    def __init__(self, stream: Producer) -> None:
        self.stream = stream
        self.workers = [
            Consumer(stream.client, "main", f"w{n}", dedup_window=3600) for n in range(3)
        ]
        self.in_hand: list[tuple[Consumer, Entry]] = []
        self.sent: list[str] = []
        self.over: list[str] = []
        self.aside: set[str] = set()

    async def send(self, key: str) -> None:
        name = f"{key}-{len(self.sent)}" if key else f"free{len(self.sent)}"
        self.sent.append(name)
        await send(self.stream, name)

    async def take(self, which: int) -> bool:
        """Let a worker take; return whether there was anything to take."""
        taken = await self.workers[which].take(2)
        self.took(self.workers[which], taken)
        return not taken.is_empty

    def took(self, group: Consumer, taken: Taken) -> None:
        refs = [entry.ref for entry in taken.entries]
        self.in_hand = [(who, entry) for who, entry in self.in_hand if entry.ref not in refs]
        self.in_hand += [(group, entry) for entry in taken.entries]
        running: dict[bytes, set[bytes]] = {}
        for _, entry in self.in_hand:
            running.setdefault(entry.key, set()).add(entry.fields[b"id"])
        running.pop(b"", None)
        assert all(len(messages) == 1 for messages in running.values()), running

    async def settle(self, what: str, which: int) -> None:
        if not self.in_hand:
            return
        group, entry = self.in_hand.pop(which % len(self.in_hand))
        handler = entry.fields.get(b"handler", b"").decode()
        follow_ups = {
            "done": (),
            "dead": (dead(entry),),
            "again": (again(entry, handler),),
            # Only an event type that no handler knows is set aside, and no handler has it then.
            "aside": (again(entry, handler) if handler else aside(entry),),
            "fan out": tuple(again(entry, one) for one in ([handler] if handler else "xy")),
        }[what]
        late = await group.settle([settled(entry, *follow_ups)])
        if not late and what == "aside":
            self.aside.add(entry.fields[b"id"].decode())
        if not late and what in {"done", "dead"}:
            self.over.append(entry.fields[b"id"].decode())

    async def take_over(self, which: int) -> None:
        """One worker takes over everything that is being handled, as if all had died."""
        self.in_hand = []
        async for taken in all_taken_over(self.workers[which]):
            self.took(self.workers[which], taken)

    async def finish(self) -> None:
        """Have all come to its end, and see that it is all there was, in the order it came."""
        await self.take_over(0)
        while True:
            while self.in_hand:
                await self.settle("done", 0)
            if not await self.take(0):
                break
        assert set(self.over) == set(self.sent)
        for key in "ab":
            in_line = [name for name in self.sent if name[0] == key and name not in self.aside]
            assert [name for name in dict.fromkeys(self.over) if name in in_line] == in_line
        keys = self.workers[0].partitions[0]
        execute = self.stream.client.execute
        assert not await execute(0, "EXISTS", keys.busy)
        assert not int(await execute(0, "GET", keys.parked) or 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["a", "b", ""])),
        st.tuples(st.sampled_from(["take", "take over"]), st.integers(0, 2)),
        st.tuples(
            st.sampled_from(["done", "again", "aside", "dead", "fan out"]), st.integers(0, 5)
        ),
    ),
    max_size=60,
)


@given(steps=STEPS)
async def test_a_key_never_runs_two_messages_at_once_and_none_is_lost(
    server: Server, steps: list[tuple[str, Any]]
) -> None:
    stream = Stream(server.url, f"model{secrets.token_hex(4)}")
    model = Model(stream)
    await model.workers[0].open()
    try:
        for what, which in steps:
            match what:
                case "send":
                    await model.send(which)
                case "take":
                    await model.take(which)
                case "take over":
                    await model.take_over(which)
                case _:
                    await model.settle(what, which)
        await model.finish()
    finally:
        prefix = stream.partitions[0].base.split(":")[0]
        with redis.Redis.from_url(server.url) as client:
            client.delete(*client.scan_iter(f"{prefix}:*"))
        for group in model.workers:
            await group.close()
        await stream.close()
