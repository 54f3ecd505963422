"""A short fuzz run for every `make test`; `make fuzz` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz_requests import Expect, Fuzz, Maker, senders
from tests.support import server_binaries


async def test_nothing_is_accepted_that_was_not_signed_and_nothing_breaks(tmp_path: Path) -> None:
    fuzz = Fuzz(tmp_path, requests=3_000, seed=7, binary=server_binaries()["valkey"])
    verdict = await fuzz.run()
    assert verdict.failures == []
    assert verdict.requests >= 3_000
    # It is no verdict on anything if nothing was accepted, answered or refused.
    assert verdict.genuine > 300
    assert verdict.handshakes > 50
    assert verdict.refused > 1_000
    assert verdict.stored >= verdict.genuine


def test_a_run_has_every_kind_of_request_and_every_sender() -> None:
    everybody = senders()
    maker = Maker(everybody, random.Random(1), 0)
    sends = [maker.send() for _ in range(4_000)]
    assert {send.kind for send in sends} == {
        *(name for name, _, _ in Maker.MAKERS),
        *("genuine", "pipelined", "chunked", "chunks, broken"),
        *("cut", "noise", "garbage", "length", "head", "path", "version", "method"),
    }
    asks = [ask for send in sends for ask in send.asks]
    assert {ask.expect for ask in asks} == set(Expect)
    genuine = {ask.target for ask in asks if ask.expect is Expect.ACCEPTED}
    assert genuine == {sender.path for sender in everybody}


def test_the_same_seed_draws_the_same_kinds() -> None:
    def kinds(seed: int) -> list[str]:
        maker = Maker(senders(), random.Random(seed), 0)
        return [maker.send().kind for _ in range(200)]

    assert kinds(1) == kinds(1)
    assert kinds(1) != kinds(2)
