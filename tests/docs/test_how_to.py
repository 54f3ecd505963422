"""The how-to guides work, block by block."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import name_of, runnable
from tests.docs.runner import Runner


@pytest.mark.parametrize("page", runnable("docs/how-to"), ids=name_of)
async def test_a_guide_works_block_by_block(page: Path, runner: Runner) -> None:
    await runner.run_page(page)
