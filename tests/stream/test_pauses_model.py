"""Whatever workers, pauses and resumes do, against a model of the messages: each is handled once,
those of a key in their order, and none of them while it is paused.
"""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.message import Progress
from hookmill.stream import pauses as pauses_module
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, FollowUp, Settlement
from hookmill.stream.facts import ALL, Pause
from hookmill.stream.pauses import Pauses
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import again, ids
from tests.support import Server, Stream, message

PAUSES = [
    Pause(kind="handler", value="h", names=("h",)),
    Pause(kind="key", source="qstash", value="a"),
    Pause(kind="all"),
]


class Model:
    """Two workers of one handler, and what is known of their messages."""

    def __init__(self, stream: Producer) -> None:
        self.stream = stream
        self.pauses = Pauses(stream.client, "main")
        self.workers = [
            Consumer(stream.client, "main", f"w{n}", dedup_window=3600) for n in range(2)
        ]
        self.sent: dict[str, str] = {}
        self.in_hand: list[tuple[Consumer, Entry]] = []
        self.done: list[str] = []
        self.paused: set[str] = set()

    async def append(self, which: int) -> None:
        for _ in range(which % 3 + 1):
            name = f"m{len(self.sent):03}"
            self.sent[name] = ["", "a", "b"][len(self.sent) % 3]
            await self.stream.append([message(id=name, key=self.sent[name])])

    async def take(self, which: int) -> bool:
        """Take, and judge as a worker does."""
        group = self.workers[which % 2]
        taken = await group.take(1 + which)
        assert taken.is_empty or ALL not in self.paused
        for entry in taken.entries:
            held = group.pauses.holds(0, "qstash", entry.key, ("h",))
            assert (held is not None) == ("handler:h" in self.paused or self._key_waits(entry))
            if held is None:
                self.in_hand.append((group, entry))
                continue
            changes = Progress(owner=entry.owner.decode(), handler="h").to_fields()
            await self._settle(group, entry, FollowUp("paused", held, changes))
        return not taken.is_empty

    def _key_waits(self, entry: Entry) -> bool:
        return "key:qstash:a" in self.paused and entry.key == b"qstash:a"

    async def _settle(self, group: Consumer, entry: Entry, *follow_ups: FollowUp) -> None:
        settled = Settlement(
            entry.ref, follow_ups, entry.key, entry.owner, entry.weight, entry.fields
        )
        assert await group.settle([settled]) == []

    async def finish_one(self, which: int) -> None:
        if self.in_hand:
            group, entry = self.in_hand.pop(which % len(self.in_hand))
            await self._settle(group, entry)
            self.done += ids([entry])

    async def retry(self, which: int) -> None:
        if self.in_hand:
            group, entry = self.in_hand.pop(which % len(self.in_hand))
            await self._settle(group, entry, again(entry))

    async def pause(self, which: int) -> None:
        pause = PAUSES[which % 3]
        assert await self.pauses.pause(pause)
        self.paused.add(pause.name)

    async def resume(self, which: int) -> None:
        name = PAUSES[which % 3].name
        steps = self.pauses.resume(name)
        async for _ in steps:
            if which % 5 == 0:
                break  # the command was killed
        await steps.aclose()
        self.paused.discard(name)

    async def go_on(self, _: int) -> None:
        await self.pauses.end_due([0])

    async def end(self) -> None:
        for pause in PAUSES:
            self.paused.discard(pause.name)
            async for _ in self.pauses.resume(pause.name):
                pass
        while await self.take(40) or self.in_hand:
            while self.in_hand:
                await self.finish_one(0)


STEPS = ["append", "append", "take", "take", "take", "finish_one", "retry"]
STEPS += ["pause", "pause", "resume", "go_on"]


@pytest.mark.one_server
@given(chosen=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 30)), max_size=40))
async def test_every_message_is_handled_once_in_the_order_of_its_key_and_never_while_paused(
    server: Server, chosen: list[tuple[str, int]]
) -> None:
    stream = Stream(server.url, f"t{secrets.token_hex(4)}")
    model = Model(stream)
    for group in model.workers:
        await group.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pauses_module, "STEP", 2)
        for step, which in chosen:
            await getattr(model, step)(which)
        await model.end()
    assert sorted(model.done) == sorted(model.sent)
    for key in "ab":
        names = [name for name in model.done if model.sent[name] == key]
        assert names == sorted(names)
    assert (await Upkeep(stream.client, "main").measure_backlog()).messages == 0
    assert await model.pauses.listed() == []
    for group in model.workers:
        await group.close()
    await stream.client.execute(0, "FLUSHDB")
    await stream.close()
