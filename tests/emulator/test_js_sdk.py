"""The official SDK for JavaScript, unmodified, drives the emulator; its Receiver verifies what
comes. The scenarios are in `sdk.mjs`; they run in one process of Node.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator.running import TOKEN, Reply, run_emulator, subscriber
from tests.node import Node, node_with

PROGRAM = Path(__file__).parent / "sdk.mjs"
SCENARIOS = 13


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return node_with(tmp_path_factory.mktemp("node"), PROGRAM, "@upstash/qstash@2")


@pytest.mark.external
async def test_every_endpoint_works_with_the_sdk_and_every_delivery_verifies(node: Node) -> None:
    failed: Reply = (500, {}, b"no")
    async with run_emulator(scale=0.001) as emulator, subscriber() as inbox:
        inbox.answer("/js/failing", failed)
        inbox.answer("/js/final", (489, {"Upstash-NonRetryable-Error": "true"}, b""))
        inbox.answer("/js/twice", failed, failed, failed, (200, {}, b""))
        said = await node.run(
            PROGRAM.name, {"url": emulator.url, "token": TOKEN, "inbox": inbox.url}
        )
    assert {name: trouble for name, trouble in said.items() if trouble} == {}
    assert len(said) == SCENARIOS
