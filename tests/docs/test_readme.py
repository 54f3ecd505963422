"""README, and the tutorial that it leads to: short, and what they show happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.docs.pages import ROOT, name_of, runnable
from tests.docs.runner import Runner
from tests.e2e.line import Line
from tests.support import Program, Server


@pytest.mark.parametrize(
    "page", runnable("README.md", "CONTRIBUTING.md", "docs/tutorial"), ids=name_of
)
async def test_a_newcomers_page_works_block_by_block(page: Path, runner: Runner) -> None:
    await runner.run_page(page)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


async def test_the_example_handles_what_the_readme_says_it_does(
    start_program: Callable[..., Program],
    tmp_path: Path,
    server: Server,
    prefix: str,
    redis_client: redis.Redis,
) -> None:
    (tmp_path / "handlers.py").write_text((ROOT / "examples" / "handlers.py").read_text())
    line = Line(start_program, tmp_path, server.url, prefix)
    receiver = line.receiver()
    worker = start_program("worker", "handlers:handlers", env=line.env)

    assert await line.send([line.order(7), line.post_published(8)]) == {200: 2}
    worker.wait_for('"handler":"send_receipt"')
    worker.wait_for('"handler":"rebuild_page"')
    line.wait_for_drained(redis_client)
    assert [worker.stop(), receiver.stop()] == [0, 0]
    assert "receipt for A-7, idempotency key msg_7" in worker.log
