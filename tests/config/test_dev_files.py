"""What a program made for its run is found while it runs, and by nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hookmill.config.dev_files import DEV, FOLDER, QSTASH, kept, of_running

MADE = {"QSTASH_TOKEN": "t-_9", "QSTASH_URL": "http://127.0.0.1:8081", "ODD": "a 'b' $c=\n"}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_is_found_while_the_program_runs_and_not_afterwards() -> None:
    assert of_running(DEV) == {}
    with kept(DEV, MADE) as path:
        assert path
        assert (of_running(DEV), of_running(QSTASH)) == (MADE, {})
    assert of_running(DEV) == {}
    assert not path.exists()


def test_only_this_user_can_read_it_and_git_leaves_it_out() -> None:
    before = os.umask(0)
    try:
        with kept(DEV, MADE) as path:
            assert path
            assert FOLDER.stat().st_mode & 0o777 == 0o700
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert (FOLDER / ".gitignore").read_text() == "*\n"


def test_git_leaves_it_out_also_where_the_folder_was_there_before() -> None:
    FOLDER.mkdir()
    with kept(DEV, MADE):
        assert (FOLDER / ".gitignore").read_text() == "*\n"
    (FOLDER / ".gitignore").write_text("*.env\n")
    with kept(DEV, MADE):
        assert (FOLDER / ".gitignore").read_text() == "*.env\n"


def test_a_shell_reads_it() -> None:
    with kept(DEV, MADE) as path:
        assert path
        script = f'set -a; . {path}; printf "%s|%s|%s" "$QSTASH_TOKEN" "$QSTASH_URL" "$ODD"'
        said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "|".join(MADE.values())


def test_of_two_programs_the_later_one_has_the_file_and_the_earlier_leaves_it_there() -> None:
    with kept(DEV, MADE) as path:
        assert path
        with kept(DEV, {"QSTASH_TOKEN": "later"}):
            assert of_running(DEV) == {"QSTASH_TOKEN": "later"}
        assert of_running(DEV) == {}
    with kept(DEV, MADE):
        pass
    assert list(FOLDER.iterdir()) == [FOLDER / ".gitignore"]
    assert not path.exists()


def test_the_end_of_the_earlier_program_leaves_the_file_of_the_later_one() -> None:
    earlier = kept(DEV, MADE)
    earlier.__enter__()
    with kept(DEV, {"QSTASH_TOKEN": "later"}):
        earlier.__exit__(None, None, None)
        assert of_running(DEV) == {"QSTASH_TOKEN": "later"}


def test_the_file_of_a_program_that_was_killed_does_not_count() -> None:
    code = (
        "import os, sys; from hookmill.config.dev_files import *\n"
        "with kept(DEV, {'QSTASH_TOKEN': 'old'}): os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert "QSTASH_TOKEN=old" in (FOLDER / DEV).read_text()
    assert of_running(DEV) == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_can_read_or_write_does_not_count(mode: int) -> None:
    with kept(DEV, MADE) as path:
        assert path
        path.chmod(mode)
        assert of_running(DEV) == {}


def test_a_file_that_came_with_a_copy_of_somebodys_folder_does_not_count(tmp_path: Path) -> None:
    with kept(DEV, MADE) as path:
        assert path
        (FOLDER / QSTASH).symlink_to(path.resolve())
        assert of_running(QSTASH) == {}
        path.with_name("copy.env").write_bytes(path.read_bytes())
        path.with_name("copy.env").chmod(0o600)
        assert of_running("copy.env") == {}
    os.mkfifo(FOLDER / "pipe.env", 0o600)
    assert of_running("pipe.env") == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_does_not_count() -> None:
    with kept(DEV, MADE) as path:
        assert path
        os.chown(path, 65534, 65534)
        assert of_running(DEV) == {}


def test_where_the_folder_cannot_be_made_nothing_is_kept() -> None:
    FOLDER.write_text("a file")
    with kept(DEV, MADE) as path:
        assert path is None
        assert of_running(DEV) == {}
