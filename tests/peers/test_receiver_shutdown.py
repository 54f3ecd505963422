"""A receiver that stops or restarts drops nothing and runs nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import redis

from tests.peers.deliveries import Post, Senders, http_client, order, post, receiving
from tests.peers.view import View
from tests.peers.work import MakeSettings, OwnServer, StartProgram, environment, names, settings_of
from tests.ports import free_port
from tests.support import CURRENT_KEY, eventually


async def test_a_receiver_that_is_stopped_under_load_answers_all_it_has_stored(
    own_server: OwnServer, start_program: StartProgram
) -> None:
    """svix-bridge, in its source: no graceful shutdown. What is stored but unanswered comes twice,
    what is answered but not stored is lost.
    """
    server, port = own_server(), free_port()
    env = {
        "PORT": str(port),
        "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
        "HOOKMILL_APPEND_TIMEOUT": "10",
    }
    receiver = start_program("receiver", env=environment(server, "t") | env)
    receiver.wait_for('"receiving"')
    senders = Senders(f"http://127.0.0.1:{port}", 16)
    with redis.Redis.from_url(server.url) as client:
        view = View(client, "t")
        await senders.more(200, 200)
        client.client_pause(1000, all=False)  # so that some are on their way when the stop comes
        await view.held_up(1)
        assert await asyncio.to_thread(receiver.stop) == 0
        await senders.stop()
        stored = view.stored()
    assert set(senders.answers.values()) == {200, 0}
    assert Counter(stored) == Counter(senders.answered(200))
    assert "Traceback" not in receiver.log


async def test_what_lies_in_the_spool_at_the_stop_is_drained_by_the_next_start(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """nazarli-shabnam/clevis#409: messages that could not be queued are never queued later."""
    server = own_server()
    configured = settings_of(server)(
        append_timeout=1.5,
        spool=tmp_path / "spool.db",
        qstash_current_signing_key=CURRENT_KEY,
    )
    async with receiving(configured) as url, http_client() as http:
        server.kill()
        for number in range(5):
            assert (await post(http, url, order(number))).status == 200
    server.start()
    with redis.Redis.from_url(server.url) as client:
        view = View(client, "t")
        async with receiving(configured):
            await eventually(lambda: len(view.stored()) >= 5, timeout=30)
        assert view.stored() == names(5)


async def test_a_restarted_receiver_still_knows_the_tokens_it_has_seen(
    settings: MakeSettings, view: View
) -> None:
    """Hookaido's changelog: a reload emptied the replay cache."""
    configured = settings(qstash_current_signing_key=CURRENT_KEY)
    given = order(1)
    copied = Post("m2", given.body, given.headers | {"Upstash-Message-Id": "m2"})
    statuses = []
    for one in (given, copied, given):
        async with receiving(configured) as url, http_client() as http:
            statuses.append((await post(http, url, one)).status)
    assert statuses == [200, 401, 200]
    assert set(view.stored()) == {"m1"}
