"""Direct delivery: `Sender` posts to our receiver, which verifies and stores the messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import redis

from hookmill import Sender, SendError
from hookmill.catalog.marble import PostPublished
from hookmill.config.settings import Settings
from tests.e2e.line import stored
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program

WHSEC = "whsec_c3Vic2NyaWJlcnMgb3duIHNlY3JldA=="
POST = PostPublished(id="1", title="ä")


async def test_a_direct_delivery_is_verified_and_stored_and_a_forged_one_is_refused(
    tmp_path: Path,
    settings: Callable[..., Settings],
    start_program: Callable[..., Program],
    redis_client: redis.Redis,
) -> None:
    (tmp_path / "hookmill.toml").write_text("[sources.standard-webhooks]\n")
    some, port = settings(), free_port()
    env = {
        "REDIS_URL": str(some.redis_url),
        "PORT": str(port),
        "HOOKMILL_PREFIX": some.prefix,
        "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET,
        "STANDARD_WEBHOOKS_WEBHOOK_SECRET": WHSEC,
    }
    receiver = start_program("receiver", env=env)
    receiver.wait_for('"receiving"')
    base = f"http://127.0.0.1:{port}"

    async with Sender(direct=True) as sender:
        ids = {}
        for scheme, secret in (("marble", MARBLE_SECRET), ("standard-webhooks", WHSEC)):
            sent = await sender.send(f"{base}/{scheme}", POST, scheme=scheme, secret=secret)
            ids[scheme] = sent.message_id
        forged = await refused(sender, f"{base}/marble")

    assert (forged.status, forged.may_be_published) == (401, False)
    found = stored(redis_client, some.prefix)
    assert {source: message.id for source, message in found.items()} == ids
    for message in found.values():
        assert message.type == "post.published"
        event = PostPublished.from_message(message)
        assert (event.id, event.title) == ("1", "ä")
    assert receiver.stop() == 0


async def refused(sender: Sender, url: str) -> SendError:
    try:
        await sender.send(url, POST, scheme="marble", secret="another secret")
    except SendError as error:
        return error
    raise AssertionError("it was accepted")
