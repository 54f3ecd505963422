"""Nothing is lost behind a 200, and nothing enters without a valid signature."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.peers.deliveries import Senders, http_client, order, post, receiving
from tests.peers.view import View
from tests.peers.work import (
    AOF,
    OwnServer,
    StartProgram,
    Work,
    environment,
    names,
    settings_of,
    working,
)
from tests.ports import free_port
from tests.support import CURRENT_KEY, Server, eventually

# --- 200 before durable ---------------------------------------------------------------------


def receiver_env(server: Server, port: int, **env: str) -> dict[str, str]:
    given = {"PORT": str(port), "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY}
    return environment(server, "t") | given | env


async def test_every_200_of_a_receiver_that_is_killed_is_in_redis(
    own_server: OwnServer, start_program: StartProgram
) -> None:
    """apache/iggy#3798: 200 meant "in this process's buffer", and a crash emptied that."""
    server, port = own_server(), free_port()
    receiver = start_program("receiver", env=receiver_env(server, port))
    receiver.wait_for('"receiving"')
    senders = Senders(f"http://127.0.0.1:{port}", 16)
    await senders.more(200, 300)
    receiver.kill()
    await senders.stop()
    with redis.Redis.from_url(server.url) as client:
        stored = set(View(client, "t").stored())
    assert len(senders.answered(200)) >= 300
    assert senders.answered(200) <= stored


async def test_no_200_is_given_for_what_redis_did_not_take(own_server: OwnServer) -> None:
    """argoproj/argo-events#3448 (fix #3449): 200 although the bus had not taken the event.

    frain-dev/convoy and Inngest answer 400, svix-bridge 500, and a sender may not try again.
    """
    server = own_server(*AOF)
    configured = settings_of(server)(durability="aof", qstash_current_signing_key=CURRENT_KEY)
    async with receiving(configured) as url:
        senders = Senders(url, 16)
        await senders.more(200, 200)
        server.kill()
        await senders.more(503, 50)
        server.start()
        await senders.more(200, 50)
        await senders.stop()
    with redis.Redis.from_url(server.url) as client:
        stored = set(View(client, "t").stored())
    assert senders.answered(200) <= stored
    assert senders.answered(200) | senders.answered(503) == set(senders.answers)


# --- the queue is down ----------------------------------------------------------------------


@pytest.mark.parametrize("away", ["killed", "frozen"])
async def test_a_delivery_refused_while_redis_is_away_is_accepted_when_it_is_sent_again(
    own_server: OwnServer, away: str
) -> None:
    """Hookaido's changelog: a nonce spent before the queue took the message, so 401 for the retry.

    svix-bridge: a hung Redis blocks the receiver for good.
    """
    server = own_server()
    configured = settings_of(server)(
        append_timeout=1.5, retry_after=7, qstash_current_signing_key=CURRENT_KEY
    )
    given = order(1)
    work = Work()
    async with receiving(configured) as url, http_client() as http:
        if away == "killed":
            server.kill()
        else:
            server.signal(signal.SIGSTOP)
        refused = await post(http, url, given)
        assert (refused.status, refused.retry_after) == (503, "7")
        if away == "killed":
            server.start()
        else:
            server.signal(signal.SIGCONT)
        assert (await post(http, url, given)).status == 200
    with redis.Redis.from_url(server.url) as client:
        async with working(configured, work.handlers):
            await eventually(lambda: work.done)
            await View(client, "t").drained()
    assert work.done == Counter(["m1"])  # although a frozen Redis may have taken it twice


async def test_what_was_accepted_while_redis_was_away_is_handled_without_another_delivery(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """nazarli-shabnam/clevis#439, #409: rows whose XADD had failed were kept and never re-sent.

    Vexa-ai/vexa#520: 75 minutes of an outage dropped, for the retries lay in the same Redis.
    """
    server = own_server()
    configured = settings_of(server)(
        append_timeout=1.5,
        spool=tmp_path / "spool.db",
        qstash_current_signing_key=CURRENT_KEY,
    )
    work = Work()
    async with receiving(configured) as url, http_client() as http:
        server.kill()
        assert [(await post(http, url, order(n))).status for n in range(5)] == [200] * 5
        server.start()
        async with working(configured, work.handlers):
            await eventually(lambda: len(work.done) == 5, timeout=30)
            with redis.Redis.from_url(server.url) as client:
                await View(client, "t").drained()
    assert work.done == Counter(names(5))


# --- fails open -----------------------------------------------------------------------------


@pytest.mark.parametrize("spools", [False, True], ids=["refusing", "spooling"])
async def test_what_does_not_verify_is_refused_while_redis_is_away_as_well(
    own_server: OwnServer, tmp_path: Path, spools: bool
) -> None:
    """frain-dev/convoy#2656: what guards the door must not open it where its store is gone."""
    server = own_server()
    spool = tmp_path / "spool.db"
    configured = settings_of(server)(
        append_timeout=1.5,
        spool=spool if spools else None,
        qstash_current_signing_key=CURRENT_KEY,
    )
    genuine = order(1)
    forged = genuine._replace(body=genuine.body.replace(b"1", b"2"))
    async with receiving(configured) as url, http_client() as http:
        server.kill()
        for given in (forged, order(2, signed=False)):
            assert (await post(http, url, given)).status == 401
        assert not spool.with_name("spool.db.active").exists()
        assert (await post(http, url, genuine)).status == (200 if spools else 503)
        server.start()
        if spools:
            await eventually(lambda: not spool.with_name("spool.db.active").exists(), timeout=30)
    with redis.Redis.from_url(server.url) as client:
        assert View(client, "t").stored() == (["m1"] if spools else [])


SECRETS = [
    {},
    {"QSTASH_CURRENT_SIGNING_KEY": ""},
    {"MARBLE_WEBHOOK_SECRET": "  "},
    {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "MARBLE_WEBHOOK_SECRET": ""},
]


@pytest.mark.parametrize("env", SECRETS, ids=["none", "empty", "blank", "one of two empty"])
def test_a_source_without_a_usable_secret_does_not_start(
    start_program: StartProgram, env: dict[str, str]
) -> None:
    """n8n CVE-2026-54308: without a signing secret the trigger took whatever was posted.

    svix-bridge's default is no verification, webhookx without a plugin accepts all, Hookaido took
    an empty HMAC block for an open door (GHSA-5v3w-hjh4-4q9q).
    """
    port = free_port()
    redis_url = "redis://127.0.0.1:1/0"
    program = start_program("receiver", env={"REDIS_URL": redis_url, "PORT": str(port), **env})
    assert program.wait() == 2
    assert '"receiving"' not in program.log
