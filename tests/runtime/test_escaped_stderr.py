"""Standard error of the commands: what is written there, by whomever, steers no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.hostile import FORGED, is_clean

START = """
import sys, threading, warnings
from hookmill.runtime.escaped_stderr import escape_stderr
from tests.hostile import HOSTILE

escape_stderr()
"""


def written(script: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START + dedent(script)],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        check=True,
    )
    return done.stderr.decode()


@pytest.mark.parametrize(
    "script",
    [
        "print(HOSTILE, file=sys.stderr)",
        "import typer; typer.echo(HOSTILE, err=True)",
        "warnings.warn(HOSTILE)",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_is_written_shows_as_itself(script: str, encoding: str) -> None:
    text = written(script, PYTHONIOENCODING=encoding)

    assert is_clean(text)
    assert FORGED in text
    assert encoding == "utf-8" or text.isascii()


@pytest.mark.parametrize(
    "script",
    [
        """
        def fail():
            raise ValueError(HOSTILE)
        thread = threading.Thread(target=fail, name=HOSTILE)
        thread.start()
        thread.join()
        """,
        """
        class Failing:
            def __del__(self):
                raise ValueError(HOSTILE)
        Failing()
        """,
    ],
)
def test_an_error_that_nobody_caught_forges_no_line(script: str) -> None:
    text = written(script)

    assert is_clean(text)
    assert f"  {FORGED}" in text
    first, *others = text.splitlines()
    assert first.startswith("hookmill: ")
    assert all(line.startswith("  ") for line in others if line)


def test_what_draws_on_the_terminal_can_still_draw() -> None:
    script = """
        from hookmill.cli.output import console
        file = console(stderr=True).file
        file.write("\\x1b[1mbold\\x1b[0m")
        file.flush()
        """
    assert written(script) == "\x1b[1mbold\x1b[0m"


def test_a_text_is_written_when_its_line_ends() -> None:
    assert written("import os; sys.stderr.write('\\x1b[2J\\n'); os._exit(0)") == "\\x1b[2J\n"
