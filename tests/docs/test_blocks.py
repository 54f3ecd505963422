"""Every code block of README and docs works, or says why it is not run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hookmill.cli.main import app
from tests.docs.pages import PAGES, Block, blocks_of, name_of, without_blocks
from tests.docs.runner import Runner, commands_of
from tests.support import Server

LANGUAGES = {"sh", "python", "toml", "json", "text", "{toctree}", "{eval-rst}"}
"""`text` is what programs write, or a drawing. The last two are Sphinx' own."""

INSTALLS = "it would install the last release, not this code"
REDIS_CLI = "needs redis-cli; `tests/docs/test_procedures.py` does the same"

NOT_RUN = {
    ("README.md", "pip install hookmill"): INSTALLS,
    ("docs/explanation/performance.md", "make bench"): (
        "it takes twenty minutes; `tests/test_benchmarks.py` runs the benchmarks with --quick"
    ),
    ("docs/how-to/deploy.md", "docker build -f deploy/Dockerfile -t hookmill ."): "needs Docker",
    ("docs/how-to/develop-offline.md", "hookmill dev"): (
        "the tutorial runs it with handlers of its own, the README with samples"
    ),
    ("docs/how-to/develop-offline.md", "python examples/guide.py"): (
        "`tests/e2e/test_guide.py` runs it"
    ),
    (
        "docs/how-to/remove-a-group.md",
        "redis-cli -u \"$REDIS_URL\" XGROUP DESTROY 'hookmill:{0}:stream' analytics",
    ): REDIS_CLI,
    (
        "docs/how-to/remove-a-group.md",
        "redis-cli -u \"$REDIS_URL\" --scan --pattern 'hookmill:{0}:analytics:*' \\",
    ): REDIS_CLI,
    ("docs/tutorial/first-handler.md", "mkdir blog && cd blog"): INSTALLS,
}
"""Page and first line, and the reason. Whoever adds a mark adds it here as well."""


@pytest.fixture
def runner(
    tmp_path: Path, own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runner]:
    """A folder, a server and an environment for a page."""
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = Runner(folder, own_server().url)
    for name, value in made.env_of_python.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


def is_run(block: Block) -> bool:
    return block.language in {"sh", "python", "toml", "json"} and not block.why_not_run


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(map(is_run, blocks_of(page)))], ids=name_of
)
async def test_each_code_block_of_a_page_works_in_its_order(page: Path, runner: Runner) -> None:
    for block in blocks_of(page):
        if is_run(block) or block.is_output:
            await runner.run(block)


def test_each_block_that_is_not_run_is_listed_here_with_its_reason() -> None:
    marked = {
        (
            name_of(page),
            block.text.partition("\n")[0].partition("  #")[0].strip(),
        ): block.why_not_run
        for page in PAGES
        for block in blocks_of(page)
        if block.why_not_run
    }
    assert marked == NOT_RUN


def test_each_block_names_its_language_and_its_mark_is_known() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language in LANGUAGES, block.where
            known = block.why_not_run or block.file or block.is_output or block.exit_status
            is_generated = re.fullmatch(r"/?[a-z]+", block.mark)
            assert not block.mark or known or is_generated, f"{block.where}: {block.mark}"


def test_each_command_that_a_page_names_exists_with_its_options() -> None:
    named = 0
    for page in PAGES:
        commands = [
            command
            for block in blocks_of(page)
            if block.language == "sh"
            for command in commands_of(block.text)
        ]
        commands += re.findall(r"`(hookmill [^`]+)`", without_blocks(page))
        for command in commands:
            for words in re.findall(r"(?:^|\$\()hookmill((?: +[^\s|#;)]+)+)", command):
                check_command(words.split(), f"{name_of(page)}: {command}")
                named += 1
    assert named > 50


def check_command(words: list[str], where: str) -> None:
    """Follow the words down the tree of commands; each option must be one of the command's."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        names = words.pop(0).split("/")  # `hookmill dead list/show`
        if names[0].isupper():  # COMMAND stands for any
            return
        assert all(name in command.commands for name in names), where
        command = command.commands[names[0]]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, where
