"""Each sender with a symmetric scheme, tried with `hookmill send` and a running receiver."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from hookmill.config.secrets import secret_variable_of
from hookmill.config.settings import Settings, load_settings
from hookmill.debug import simulate
from hookmill.debug.targets import sender_for
from hookmill.signatures.presets import PRESETS
from tests.e2e.line import stored
from tests.ports import free_port
from tests.support import CURRENT_KEY, MARBLE_SECRET, Program

pytestmark = pytest.mark.one_server  # the senders' signatures

PUBLIC_URL = "https://app.example"

SYMMETRIC = [
    name
    for name, preset in PRESETS.items()
    if preset.spec.algorithm not in {"ed25519", "ecdsa-p256"} and name != "marble"
]
ALL = ["qstash", "marble", *SYMMETRIC, "shop", "own"]

NO_ID = {name for name in SYMMETRIC if not PRESETS[name].spec.id}
"""Senders without an ID. The receiver makes one."""

NO_TYPE = {name for name in SYMMETRIC if not PRESETS[name].spec.type}

TABLES = (
    "".join(f"[sources.{name}]\n" for name in SYMMETRIC if name != "meta")
    + """
[sources.meta]
handshake = ""  # this test sends no handshake

[sources.shop]
preset = "shopify"
url = "https://shop.example/hook"

[sources.own]
signature = "header:X-Signature"
algorithm = "hmac-sha512"
split = ","
pair = "="
item = "s"
content = "{method} {url} {timestamp}.{id}.{body}"
timestamp = "item:t"
unit = "ms"
id = "header:X-Id"
type = "{json:kind}:{json:0.verb}"
"""
)


def secret_of(name: str) -> str:
    """Return a secret in the format of the sender."""
    spec = PRESETS[name].spec if name in PRESETS else None
    if spec is not None and spec.key == "base64":
        return spec.key_prefix + base64.b64encode(secrets.token_bytes(32)).decode()
    return f"secret-of-{name}-{secrets.token_hex(8)}"


@pytest.fixture
def environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Callable[..., Settings]
) -> dict[str, str]:
    """Configure all symmetric senders as sources, for the receiver's process and for this one."""
    (tmp_path / "hookmill.toml").write_text(TABLES)
    some = settings()
    env = {
        "REDIS_URL": str(some.redis_url),
        "PORT": str(free_port()),
        "HOOKMILL_PREFIX": some.prefix,
        "HOOKMILL_PUBLIC_URL": PUBLIC_URL,
        "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
        "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET,
        **{secret_variable_of(name): secret_of(name) for name in (*SYMMETRIC, "shop", "own")},
    }
    monkeypatch.chdir(tmp_path)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


async def test_a_delivery_of_each_sender_is_accepted_with_its_id_and_type_and_a_forged_one_refused(
    environment: dict[str, str],
    start_program: Callable[..., Program],
    redis_client: redis.Redis,
    tmp_path: Path,
) -> None:
    receiver = start_program("receiver", env=environment)
    receiver.wait_for('"receiving"')
    configured = load_settings()
    base = f"http://127.0.0.1:{environment['PORT']}"

    for name in ALL:
        url = base + configured.path_of(name)
        made = sender_for(name, url, configured)
        forged, sent = [
            await simulate.deliver(
                made.preset,
                made.scheme,
                url,
                message_id=f"id-of-{name}",
                event_type=f"{name}.tried",
                signed_url=made.url,
                forged=is_forged,
            )
            for is_forged in (True, False)
        ]
        assert forged.status == 401, (name, forged)
        assert sent.status == 200, (name, sent)

    found = stored(redis_client, environment["HOOKMILL_PREFIX"])
    assert sorted(found) == sorted(ALL)
    for name, message in found.items():
        if name in NO_ID:
            assert message.id.startswith(("hm_", "msg_")), name
        elif name == "calendly":
            assert message.id == "id-of-calendly@1"
        elif name in {"hubspot", "woocommerce"}:  # its ID is a hash of the body
            assert message.id.startswith("hm_")
        else:
            assert message.id == f"id-of-{name}", name
        if name == "own":  # `send` puts the whole type into the first field of the template
            assert message.type == "own.tried:1"
        else:
            assert message.type == ("" if name in NO_TYPE else f"{name}.tried"), name
    assert receiver.stop() == 0
    assert "Traceback" not in receiver.log


@pytest.mark.parametrize("name", ["github", "twilio", "svix"])
async def test_the_command_line_does_the_same(
    name: str,
    environment: dict[str, str],
    start_program: Callable[..., Program],
    redis_client: redis.Redis,
    tmp_path: Path,
) -> None:
    receiver = start_program("receiver", env=environment)
    receiver.wait_for('"receiving"')

    async def send(*options: str) -> tuple[int, str]:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "hookmill", "send", "--source", name, *options],
            env={"PATH": os.environ["PATH"], **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    refused, accepted = await asyncio.gather(
        send("--forged"), send("--id", "the-id", "--type", "the.type")
    )
    assert accepted == (0, "200\n")
    assert (refused[0], refused[1][:3]) == (1, "401")
    (message,) = stored(redis_client, environment["HOOKMILL_PREFIX"]).values()
    assert (message.id, message.type) == ("the-id", "the.type")
    assert receiver.stop() == 0
