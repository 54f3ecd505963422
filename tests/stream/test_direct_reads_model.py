"""Whatever two workers read directly, against a model of their messages."""

from __future__ import annotations

import secrets

import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st

from hookmill.stream import direct_reads
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.direct import append_as_older_release, names
from tests.stream.toolkit import again, ids, pending
from tests.support import Server, Stream, message


class Model:
    """Two workers, and what is known of their messages."""

    def __init__(self, stream: Producer, client: redis.Redis) -> None:
        self.stream = stream
        self.client = client
        self.workers = [
            Consumer(stream.client, "main", f"w{n}", dedup_window=3600) for n in range(2)
        ]
        self.sent: dict[str, str] = {}
        """The key of each message, in the order in which they were sent first."""
        self.in_hand: list[tuple[Consumer, Entry]] = []
        self.over: list[str] = []

    async def append(self, which: int) -> None:
        """Some new messages, and some that came before, in one batch."""
        number = len(self.sent)
        some = names(number, number + 1 + which % 7) + names(max(0, number - which), number)
        keys = ["", "a", "b"]
        chosen = [(name, self.sent.setdefault(name, keys[int(name[1:]) % 3])) for name in some]
        await self.stream.append([message(id=name, key=key) for name, key in chosen])

    async def append_as_older(self, _: int) -> None:
        name = f"m{len(self.sent)}"
        self.sent[name] = ""
        append_as_older_release(self.client, self.stream, name)

    async def take(self, which: int) -> bool:
        """Take; return whether there was anything."""
        group = self.workers[which % 2]
        taken = await group.take(1 + which)
        self.in_hand += [(group, entry) for entry in taken.entries]
        keys = [entry.key for _, entry in self.in_hand if entry.key]
        assert len(keys) == len(set(keys)), "two messages with one key run at a time"
        return not taken.is_empty

    async def done(self, which: int) -> None:
        for _ in range(min(1 + which, len(self.in_hand))):
            group, entry = self.in_hand.pop(which % len(self.in_hand))
            await group.settle([Settlement(entry.ref, (), entry.key, entry.owner)])
            self.over += ids([entry])

    async def retry(self, which: int) -> None:
        if self.in_hand:
            group, entry = self.in_hand.pop(which % len(self.in_hand))
            await group.settle([Settlement(entry.ref, (again(entry),), entry.key, entry.owner)])

    async def trim(self, _: int) -> None:
        await Upkeep(self.stream.client, "main").trim(0)

    async def finish(self) -> None:
        while await self.take(40) or self.in_hand:
            await self.done(100)


STEPS = ["append", "append", "append_as_older", "take", "take", "take", "done", "retry", "trim"]


@given(chosen=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 30)), max_size=40))
@example(chosen=[("append", 30)] * 6 + [("take", 20)] * 4 + [("append_as_older", 1), ("take", 30)])
async def test_whatever_happens_each_message_runs_once_and_each_key_in_its_order(
    server: Server, chosen: list[tuple[str, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch, redis.Redis.from_url(server.url) as client:
        patch.setattr(direct_reads, "LEAST", 2)
        patch.setattr(direct_reads, "REST", 0.0)
        stream = Stream(server.url, f"model{secrets.token_hex(4)}")
        model = Model(stream, client)
        await model.workers[0].open()
        try:
            for what, which in chosen:
                await getattr(model, what)(which)
            await model.finish()
            assert sorted(model.over) == sorted(model.sent)
            for key in "ab":
                of_key = [name for name in model.over if model.sent[name] == key]
                assert of_key == [name for name in model.sent if model.sent[name] == key]
            assert pending(client, model.workers[0]) == 0
        finally:
            prefix = stream.partitions[0].base.split(":")[0]
            client.delete(*client.scan_iter(f"{prefix}:*"))
            for group in model.workers:
                await group.close()
            await stream.close()
