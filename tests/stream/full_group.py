"""A group that has something in each of its keys."""

from __future__ import annotations

from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.facts import Heartbeat
from hookmill.stream.first_sights import FirstSights
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from tests.stream.ordering import again, dead, settled
from tests.support import message, taken_over


async def fill(client: Client, name: str) -> None:
    """Give a group of that name messages in every state, and all that workers note about it. Its
    one worker was killed: its heartbeat expires at once.
    """
    group = Consumer(client, name, "killed", dedup_window=3600)
    await group.open()
    keys = [f"}}:{name}:again:{n}" for n in range(16)]
    sent = [
        message(b"%d" % n, id=f"{name}-{n}", key=key)
        for n, key in enumerate([*keys, *keys, *[""] * 32])
    ]
    await Producer(client).append([*sent, *sent])
    entries = []
    while not (taken := await group.take(4 * len(sent))).is_empty:
        entries += taken.entries
    for number in range(len(client.partitions)):
        here = [entry for entry in entries if entry.ref.partition == number and not entry.key]
        late, soon, gone, done, *held = here
        await group.settle([settled(late, again(late, delay_ms=3_600_000))])
        await group.settle([settled(soon, again(soon)), settled(gone, dead(gone)), settled(done)])
        await group.run_alone(held[0].ref, "token")
    await taken_over(group, lease=3600)
    upkeep, heartbeats = Upkeep(client, name), Heartbeats(client, name)
    await upkeep.claim(3600)
    await upkeep.trim(3600)
    await heartbeats.write(Heartbeat(name="killed", lease=0.001))
    await FirstSights(client, name).look("order.unknown")
    for number, each in enumerate(group.partitions):  # only release 0.1 writes it
        await client.execute(number, "HSET", each.sweep, "stream", "0-0")
    leases = group.leases()
    leases.renew([])
    leases.close()
    await group.close()
