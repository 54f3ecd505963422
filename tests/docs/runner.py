"""Runs the code blocks of one page, in their order, as a reader would.

Shell commands run in a folder of the page's own, on a server of its own; `handlers.py` of the
examples is there from the start. A program that does not end (`hookmill receiver`, say) is started,
and runs until the page ends. What a reader fills in is filled in here: a secret that is written as
`...`, the address of the server, and ports that are free.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hookmill.config.settings import load_settings
from tests.docs.pages import ROOT, Block, blocks_of
from tests.ports import free_port
from tests.support import wait_until

READY = {
    "receiver": "receiving",
    "worker": "working",
    "dev": "try_this=",
    "qstash": "QSTASH_URL=",
    "status": "stream:",
}
"""The text that a long-running program prints when it is ready."""


class _Running(NamedTuple):
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Runner:
    """One page's folder, environment and programs. `close` it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self._ports = {"8080": str(free_port()), "8081": str(free_port())}
        self._redis_url = redis_url
        self._fixed = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)),
            "REDIS_URL": redis_url,
            "PORT": self._ports["8080"],
            "HOOKMILL_LOG_FORMAT": "console",
            "COLUMNS": "200",
        }
        self.env = dict(self._fixed)
        self._programs: list[_Running] = []
        self._output = folder / ".output"
        self._output.touch()
        shutil.copy(ROOT / "examples" / "handlers.py", folder)
        self._seen: dict[Path, int] = {}
        self._module = types.ModuleType("page")
        sys.modules["page"] = self._module

    async def run_page(self, page: Path) -> None:
        """Run the blocks of a page, in their order."""
        for block in blocks_of(page):
            if block.is_run or block.is_output:
                await self._run(block)

    async def _run(self, block: Block) -> None:
        """Run one block, by its language. Raises `AssertionError` where it does not work."""
        if block.is_output:
            self._expect(block)
        elif block.language == "sh":
            self._seen = {path: path.stat().st_size for path in self._logs}
            self._run_shell(block)
        elif block.language == "python":
            await self._run_python(block)
        elif block.language == "toml":
            self._load_toml(block)
        elif block.language == "json":
            json.loads(block.text)
        if block.file:
            (self.folder / block.file).write_text(block.text)

    def close(self) -> None:
        """End the programs, the last one first."""
        del sys.modules["page"]
        self._end(reversed(self._programs))

    def _end(self, programs: Iterable[_Running]) -> None:
        for running in programs:
            if running.process.poll() is None:
                running.process.send_signal(signal.SIGTERM)
                running.process.wait(30)

    # --- shell ---

    def _run_shell(self, block: Block) -> None:
        commands = commands_of(block.text)
        for number, command in enumerate(commands, start=1):
            wanted = block.exit_status if number == len(commands) else 0
            words = shlex.split(command, comments=True)
            if words[0] == "make":
                self._check_target(words[1])
                words = ["hookmill", "dev", "--samples"] if words[1] == "run" else []
            if goes_on(words):
                self._start(words)
            elif words:
                self._run_command(command, wanted, block)

    def _run_command(self, command: str, wanted: int, block: Block) -> None:
        # `...` is what a reader fills in; exported variables stay for the commands that follow.
        filled = re.sub(r"=\.\.\.(?=\s|$)", "=an_example_0123456789", command)
        script = f"set -a\n{filled}\nstatus=$?\nenv -0 > .env\nexit $status"
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-c", self._with_ports(script)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=100,
            check=False,
        )
        with self._output.open("ab") as output:
            output.write(ended.stdout)
        told = f"{block.where}: {command}\n{ended.stdout.decode()}\n{self._tail()}"
        assert ended.returncode == wanted, told
        pairs = (self.folder / ".env").read_text().split("\0")
        self.env = dict(pair.split("=", 1) for pair in pairs if "=" in pair) | self._fixed
        self.env.pop("status", None)

    def _start(self, words: list[str]) -> None:
        if words[1] == "receiver":  # a reader ends `hookmill dev` first: both listen on one port
            self._end(running for running in self._programs if running.name == "dev")
            self._use(self._redis_url)
        log = self.folder / f".{words[1]}-{len(self._programs)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *map(self._with_ports, words)],
                cwd=self.folder,
                env=self.env,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._programs.append(_Running(words[1], process, log))
        ready = READY[words[1]]
        wait_until(
            lambda: ready in log.read_text() or process.poll() is not None,
            timeout=60,
            what=f"{ready!r} of {' '.join(words)}:\n{log.read_text()}",
        )
        assert process.poll() is None, f"{' '.join(words)}:\n{log.read_text()}"
        if words[1] == "dev":  # a reader takes the address from the terminal
            self._use(re.findall(r"url=(unix://\S+)", log.read_text())[0])

    def _use(self, redis_url: str) -> None:
        self._fixed["REDIS_URL"] = self.env["REDIS_URL"] = redis_url

    def _check_target(self, target: str) -> None:
        # Only that it is there: `make test` runs this very test.
        asked = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert asked.returncode == 0, asked.stderr

    def _with_ports(self, text: str) -> str:
        for usual, ours in self._ports.items():
            text = re.sub(rf"\b{usual}\b", ours, text)
        return text

    # --- what the programs have written ---

    @property
    def _logs(self) -> list[Path]:
        return [self._output, *(running.log for running in self._programs)]

    def _expect(self, block: Block) -> None:
        """Wait until each line was written after the last shell block began. `...` stands for any
        text, and columns may be left out.
        """
        for line in block.text.splitlines():
            if line.strip() in {"", "..."}:
                continue
            parts = [re.escape(part) for part in self._with_ports(line).split()]
            pattern = re.compile(".*".join(parts).replace(re.escape("..."), ".*"))
            wait_until(
                lambda pattern=pattern: pattern.search(self._written()),  # type: ignore[misc] # the lambda binds its pattern
                timeout=60,
                what=f"{block.where}: {line!r} in\n{self._written()}",
            )

    def _written(self) -> str:
        new = (path.read_bytes()[self._seen.get(path, 0) :] for path in self._logs)
        return b"\n".join(new).decode()

    def _tail(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self._logs)

    # --- Python and settings ---

    async def _run_python(self, block: Block) -> None:
        # As if it stood in the page: an error shows the page's own line.
        code = compile(
            "\n" * (block.line - 1) + self._with_ports(block.text),
            str(block.page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        returned = eval(code, self._module.__dict__)
        if inspect.isawaitable(returned):
            await returned

    def _load_toml(self, block: Block) -> None:
        path = self.folder / "hookmill.toml"
        before = path.read_text() if path.exists() else None
        path.write_text(block.text)
        load_settings()  # it reads the file in the working directory
        if before is None:
            path.unlink()
        else:
            path.write_text(before)


def commands_of(text: str) -> list[str]:
    """Return the commands of a shell block; one may go on over several lines."""
    joined = text.replace("\\\n", " ")
    lines = (line.strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def goes_on(words: list[str]) -> bool:
    """Whether a command is a program that runs until it is told to stop."""
    if words[:1] != ["hookmill"] or len(words) < 2:
        return False
    return words[1] in {"receiver", "worker", "dev", "qstash"} or "--watch" in words
