"""A short fuzz run for every `make test`. `make fuzz` runs the long one."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz_requests.model import BODY_LIMIT, Expect
from tests.fuzz_requests.raw import RawMaker
from tests.fuzz_requests.run import Fuzz
from tests.fuzz_requests.sources import senders
from tests.support import server_binaries


async def test_only_signed_requests_are_accepted_and_none_breaks_the_receiver(
    tmp_path: Path,
) -> None:
    fuzz = Fuzz(tmp_path, requests=3_000, seed=7, binary=server_binaries()["valkey"])
    verdict = await fuzz.run()
    assert verdict.failures == []
    assert verdict.requests >= 3_000
    # Without accepted, answered and refused requests, the run would show nothing.
    assert verdict.genuine > 300
    assert verdict.handshakes > 50
    assert verdict.refused > 1_000
    assert verdict.stored >= verdict.genuine


def test_a_run_has_every_kind_of_request_and_every_sender() -> None:
    all_senders = senders()
    maker = RawMaker(all_senders, random.Random(1), 0)
    sends = [maker.send() for _ in range(6_000)]
    assert {send.kind for send in sends} == {
        *(name for name, _, _ in RawMaker.MAKERS),
        *("genuine", "pipelined", "chunked", "chunks, broken"),
        *("cut", "changed bytes", "garbage", "length", "head", "path", "version", "method"),
    }
    asks = [ask for send in sends for ask in send.asks]
    assert {ask.expect for ask in asks} == set(Expect)
    assert max(len(send.data) for send in sends) > BODY_LIMIT // 2
    genuine = {ask.target for ask in asks if ask.expect is Expect.ACCEPTED}
    assert genuine == {sender.path for sender in all_senders}


def test_the_same_seed_draws_the_same_kinds() -> None:
    def kinds(seed: int) -> list[str]:
        maker = RawMaker(senders(), random.Random(seed), 0)
        return [maker.send().kind for _ in range(200)]

    assert kinds(1) == kinds(1)
    assert kinds(1) != kinds(2)
