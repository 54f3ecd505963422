"""Output that cannot be written costs lines, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from hookmill.runtime.lossy_output import LossyFile, open_missing_files

START = """
import os, sys
import structlog
from hookmill.runtime import logs, process
from hookmill.runtime.logs import configure_logs

log = structlog.get_logger("test")
"""


def run(script: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": os.environ["PATH"], **options.pop("env", {})}
    script = START + dedent(script)
    return subprocess.run([sys.executable, "-c", script], env=env, check=False, **options)


def test_lines_that_a_full_pipe_does_not_take_are_counted_and_this_is_said_later() -> None:
    done = run(
        """
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        os.dup2(theirs, 1)
        configure_logs("json")
        for number in range(3000):
            log.info("line", number=number)
        log.info("lost for sure")
        def read():
            os.set_blocking(ours, False)
            found = b""
            try:
                while True:
                    found += os.read(ours, 65536)
            except BlockingIOError:
                return found
        first = read()
        log.info("again")
        sys.stderr.buffer.write(first + read())
        """,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stderr.decode().splitlines()
    whole = [json.loads(line) for line in lines if line.endswith("}")]
    numbers = [line["number"] for line in whole if line["event"] == "line"]
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < 3000
    again, lost = whole[-2:]
    assert again["event"] == "again"
    assert (lost["event"], lost["level"]) == ("log lines were lost", "warning")
    assert lost["lines"] == 3001 - len(numbers)


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_output_cannot_be_written_ends_as_if_it_were(
    log_format: str, unbuffered: str
) -> None:
    script = f"""
        configure_logs("{log_format}")
        async def main():
            log.info("to a full disk")
            print("by hand", flush=True)
            print("flushed at the end")
            print("an error", file=sys.stderr, flush=True)
        process.run(main())
        """
    with Path("/dev/full").open("wb") as full:
        done = run(script, stdout=full, stderr=full, env={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 0


def test_what_can_be_written_is_written_whole_and_in_order() -> None:
    done = run(
        """
        configure_logs("json")
        async def main():
            print("first", flush=True)
            log.info("second")
            print("third \\N{EURO SIGN}")
        process.run(main())
        """,
        capture_output=True,
        env={"PYTHONIOENCODING": "utf-8"},
    )
    first, second, third = done.stdout.decode().splitlines()
    assert (first, json.loads(second)["event"], third) == ("first", "second", "third \u20ac")
    assert done.stderr == b""


def test_a_line_that_was_torn_ends_before_the_next_one() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    file = LossyFile(theirs)
    file.write(b"torn" * 20_000 + b"\nlost\n")
    assert file.lost_lines == 2
    assert os.read(ours, 100_000) == b"torn" * 16_384  # as much as a pipe holds
    file.write(b"next\n")
    assert os.read(ours, 100) == b"\nnext\n"
    os.close(ours)
    assert file.write(b"nobody reads\n") == 13
    assert file.lost_lines == 3
    os.close(theirs)


def test_standard_files_that_are_there_are_left_as_they_are() -> None:
    before = [os.fstat(number).st_ino for number in range(3)]
    open_missing_files()
    assert [os.fstat(number).st_ino for number in range(3)] == before


def test_closed_standard_files_are_replaced_before_a_connection_gets_their_numbers() -> None:
    script = """
        from hookmill.runtime.lossy_output import open_missing_files
        os.close(1)
        os.close(2)
        open_missing_files()
        configure_logs("json")
        log.info("nobody sees it")
        assert os.open("/dev/zero", os.O_RDONLY) > 2
        """
    assert run(script).returncode == 0
