"""A real receiver in 256 MB gets the bodies that cost the most, several at once, and lives."""

from __future__ import annotations

import asyncio
import io
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec import SignatureSpec
from tests.memory_limit import MemoryLimit
from tests.ports import free_port
from tests.signatures.senders import SYMMETRIC, TOKENS
from tests.signatures.worst_bodies import (
    ANY_FORMAT,
    LIMIT,
    SCHEMES,
    SECRET,
    delivery_to,
    makers_for,
    most_for,
)
from tests.support import CURRENT_KEY, Program, Server, signed_headers

MIB = 1024 * 1024
MEMORY = 256 * MIB
AT_ONCE = 8
"""Bodies that are sent at the same time: more than a receiver holds (HOOKMILL_QUEUE_BYTES)."""

READING = ("twilio", "mailgun", *SCHEMES)
"""Schemes that read the body before its signature has matched; each gets all of its bodies."""

OTHERS = sorted(SYMMETRIC.keys() - TOKENS - {*READING})
"""Senders that only hash the body. Each gets one."""


def table_of(name: str, spec: SignatureSpec) -> str:
    """Write a spec as a table of hookmill.toml."""
    lines = [f"[sources.{name}]", 'secrets = "env:SECRET"', 'url = "https://app.example/hook"']
    for word in spec.__struct_fields__:
        value = getattr(spec, word)
        if value != getattr(SignatureSpec(signature=""), word):
            text = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{word} = {text}")
    return "\n".join(lines)


def settings() -> tuple[str, dict[str, str]]:
    """Return hookmill.toml and the secrets: all senders, and all schemes of ours."""
    tables = [table_of(path_of(name)[1:], spec) for name, spec in SCHEMES.items()]
    env = {"SECRET": SECRET}
    for number, name in enumerate(["twilio", "mailgun", *OTHERS]):
        env[f"SECRET_{number}"] = SYMMETRIC[name]
        tables.append(
            f'[sources.{name}]\nsecrets = "env:SECRET_{number}"\nurl = "https://app.example/hook"\n'
            + ('verify_token = "env:SECRET"\n' if PRESETS[name].spec.handshake == "meta" else "")
        )
    return "\n".join(tables), env


def path_of(name: str) -> str:
    return "/" + name.replace(" ", "-").replace(",", "")


def worst(now: float) -> list[tuple[str, Callable[[], bytes]]]:
    """Return the name of each source with what makes a body for it, in an order that mixes them."""
    found: list[tuple[str, Callable[[], bytes]]] = []
    for name in READING:
        spec = SCHEMES[name] if name in SCHEMES else PRESETS[name].spec
        own = ((what, make) for what, make in makers_for(spec, now=now) if what not in ANY_FORMAT)
        found += ((name, make) for _, make in own)
    for name in ("twilio", "form list", "json list"):
        spec = SCHEMES[name] if name in SCHEMES else PRESETS[name].spec
        found += ((name, partial(make, most_for(spec))) for make in ANY_FORMAT.values())
    kinds = itertools.cycle(ANY_FORMAT.values())
    found += ((name, partial(make, LIMIT)) for name, make in zip(OTHERS, kinds, strict=False))
    random.Random(7).shuffle(found)
    return found


@pytest.fixture
def limit() -> Iterator[MemoryLimit]:
    made = MemoryLimit(MEMORY)
    yield made
    made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux can")
async def test_a_receiver_in_256_mb_outlives_the_worst_bodies_in_parallel(
    limit: MemoryLimit,
    start_program: Callable[..., Program],
    own_server: Callable[..., Server],
    tmp_path: Path,
) -> None:
    server, port = own_server(), free_port()
    toml, secrets = settings()
    (tmp_path / "hookmill.toml").write_text(toml)
    receiver = start_program(
        "receiver",
        env={
            "REDIS_URL": server.url,
            "PORT": str(port),
            "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
            **secrets,
        },
        within=limit.command,
    )
    receiver.wait_for('"receiving"')
    url = f"http://127.0.0.1:{port}"
    now = time.time()
    waiting, statuses = worst(now), Counter[int]()
    count = len(waiting)

    async def send(session: aiohttp.ClientSession) -> None:
        while waiting:
            name, make = waiting.pop()
            signed = delivery_to(name, make(), now)
            try:
                async with session.post(
                    url + path_of(name), data=io.BytesIO(signed.body), headers=signed.headers
                ) as answer:
                    statuses[answer.status] += 1
                    is_judged = answer.status in {400, 401}
            except aiohttp.ClientConnectionError:
                # It was answered with 503, and the connection was closed while the body was sent.
                is_judged = False
                assert receiver.returncode is None, limit.kind
            if not is_judged:
                waiting.insert(0, (name, make))

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(send(session) for _ in range(AT_ONCE)))
        headers = signed_headers(QStash([CURRENT_KEY]), b"{}", "/qstash")
        async with session.post(f"{url}/qstash", data=b"{}", headers=headers) as answer:
            assert answer.status == 200
    assert statuses.keys() <= {400, 401, 503}
    assert statuses[400] + statuses[401] == count
    assert min(statuses[400], statuses[401]) > count // 5
    assert '"level":"error"' not in receiver.log
    assert "Traceback" not in receiver.log
    assert receiver.stop() == 0
