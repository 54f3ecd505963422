"""Real receivers share a spool while Redis is away. No accepted message is lost or out of order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.debug.fixtures import qstash_headers
from hookmill.signatures.qstash import QStash
from tests.ports import free_port
from tests.support import CURRENT_KEY, Program, Server, eventually, signed_headers

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
AWAY = float(os.environ.get("TEST_REDIS_AWAY", "2"))
"""Seconds that Redis is away in the test with a steady load. It was also tried with 60."""


class Sender:
    """Sends deliveries over one connection, each only when the one before was accepted."""

    def __init__(self, name: str, port: int, pause: float) -> None:
        self.name = name
        self.accepted: list[str] = []
        self.refused: list[int] = []
        self._url = f"http://127.0.0.1:{port}/qstash"
        self._pause = pause
        self._scheme = QStash([CURRENT_KEY])
        self.is_over = False

    async def run(self) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            number = 0
            while not self.is_over:
                message_id = f"{self.name}-{number}"
                body = b'{"type":"order.paid","order_id":"%d"}' % number
                headers = qstash_headers(body, message_id)
                headers |= signed_headers(self._scheme, body, "/qstash")
                try:
                    async with session.post(self._url, data=body, headers=headers) as answer:
                        status = answer.status
                except aiohttp.ClientError:
                    return  # its receiver was killed
                if status == 200:
                    self.accepted.append(message_id)
                    number += 1
                else:
                    self.refused.append(status)
                await asyncio.sleep(self._pause)


class Place:
    """Receivers with one Redis and one spool file, and senders that post to them."""

    def __init__(self, start: Callable[..., Program], folder: Path, server: Server) -> None:
        self._start = start
        self.server = server
        self.spool = folder / "spool.db"
        self.senders: list[Sender] = []
        self._sending: list[asyncio.Task[None]] = []

    def receiver(self, **env: str) -> tuple[Program, int]:
        port = free_port()
        given = {
            "REDIS_URL": self.server.url,
            "PORT": str(port),
            "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
            "HOOKMILL_SPOOL": str(self.spool),
        }
        program = self._start("receiver", env=given | env)
        program.wait_for('"receiving"')
        return program, port

    def send(self, port: int, count: int, pause: float = 0.0) -> list[Sender]:
        senders = [Sender(f"s{len(self.senders) + n}", port, pause) for n in range(count)]
        self.senders += senders
        self._sending += [asyncio.create_task(sender.run()) for sender in senders]
        return senders

    async def stop_sending(self) -> None:
        for sender in self.senders:
            sender.is_over = True
        await asyncio.gather(*self._sending)

    def accepted(self) -> int:
        return sum(len(sender.accepted) for sender in self.senders)

    async def more_are_accepted(self, count: int) -> None:
        target = self.accepted() + count
        await eventually(lambda: self.accepted() >= target, timeout=30, what=f"{count} more")

    async def is_drained(self) -> None:
        marker = self.spool.with_name("spool.db.active")
        await eventually(lambda: not marker.exists(), timeout=30, what="the spool to be drained")

    def assert_nothing_is_lost_and_all_is_in_order(self) -> list[str]:
        with redis.Redis.from_url(self.server.url) as client:
            entries: Any = client.xrange("hookmill:{0}:stream")
        stored = [fields[b"id"].decode() for _, fields in entries]
        firsts = list(dict.fromkeys(stored))
        for sender in self.senders:
            mine = [one for one in firsts if one.startswith(f"{sender.name}-")]
            # There may be one more than accepted, if its answer was lost with the receiver.
            assert sender.accepted == mine[: len(sender.accepted)]
            assert mine == [f"{sender.name}-{n}" for n in range(len(mine))]
        return stored


@pytest.fixture
def place(
    start_program: Callable[..., Program], own_server: Callable[..., Server], tmp_path: Path
) -> Place:
    return Place(start_program, tmp_path, own_server(*AOF))


async def test_deliveries_accepted_while_redis_is_down_survive_the_kill_of_a_receiver(
    place: Place,
) -> None:
    victim, first_port = place.receiver()
    survivor, second_port = place.receiver()
    place.send(first_port, 8)
    place.send(second_port, 8)
    await place.more_are_accepted(200)
    place.server.kill()
    await place.more_are_accepted(200)
    victim.kill()
    await place.more_are_accepted(100)
    place.server.start()
    await place.is_drained()
    await place.more_are_accepted(100)  # directly to Redis again
    await place.stop_sending()
    await place.is_drained()

    place.assert_nothing_is_lost_and_all_is_in_order()
    assert [sender.refused for sender in place.senders] == [[]] * 16
    assert survivor.stop() == 0
    assert "Traceback" not in survivor.log
    assert '"spool drained"' in survivor.log


async def test_a_receiver_that_starts_drains_the_spool_that_a_killed_one_left(
    place: Place,
) -> None:
    receiver, port = place.receiver()
    place.server.kill()
    place.send(port, 4)
    await place.more_are_accepted(50)
    receiver.kill()
    await place.stop_sending()
    place.server.start()
    again, _ = place.receiver()
    await place.is_drained()
    stored = place.assert_nothing_is_lost_and_all_is_in_order()
    assert len(stored) >= 50
    assert again.stop() == 0


async def test_when_a_receiver_is_killed_while_it_drains_the_other_one_continues(
    place: Place,
) -> None:
    receivers = [place.receiver() for _ in range(2)]
    place.server.kill()
    for _, port in receivers:
        place.send(port, 16)
    await place.more_are_accepted(3000)
    await place.stop_sending()
    place.server.start()
    with redis.Redis.from_url(place.server.url) as client:
        await eventually(lambda: client.xlen("hookmill:{0}:stream") > 0)
    receivers[0][0].kill()
    await place.is_drained()
    place.assert_nothing_is_lost_and_all_is_in_order()
    assert receivers[1][0].stop() == 0


@pytest.mark.timeout(120 + 2 * AWAY)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_while_redis_is_away_no_delivery_is_refused_or_lost_and_the_order_is_kept(
    place: Place, how: str
) -> None:
    receivers = [place.receiver() for _ in range(2)]
    for _, port in receivers:
        place.send(port, 10, pause=0.02)
    await place.more_are_accepted(200)
    if how == "killed":
        place.server.kill()
    else:
        place.server.signal(signal.SIGSTOP)
    await asyncio.sleep(AWAY)
    await place.more_are_accepted(1)
    if how == "killed":
        place.server.start()
    else:
        place.server.signal(signal.SIGCONT)
    await place.is_drained()
    await place.more_are_accepted(200)
    await place.stop_sending()
    await place.is_drained()

    stored = place.assert_nothing_is_lost_and_all_is_in_order()
    assert [sender.refused for sender in place.senders] == [[]] * 20
    # Only deliveries that were being appended when Redis went away or came back are stored twice.
    assert len(stored) - place.accepted() <= 100
    for program, _ in receivers:
        assert program.stop() == 0
        assert "Traceback" not in program.log
