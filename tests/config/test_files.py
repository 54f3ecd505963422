"""How the files of settings and secrets are read: within bounds, and without waiting."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hookmill.config.files import (
    LARGEST,
    FileLook,
    UnreadableError,
    as_seen,
    look_at,
    read_bytes,
    read_text,
)


def test_a_look_finds_the_content_or_why_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert look_at(path) == FileLook(b"content")
    path.write_bytes(b"x" * (LARGEST + 1))
    assert look_at(path).name == "TooLargeError"
    assert look_at(tmp_path / "none").name == "FileNotFoundError"
    assert look_at(tmp_path).name == "IsADirectoryError"
    assert look_at(Path("/dev/zero")).name == "NotRegularError"
    assert look_at(Path("nul\0")).name == "ValueError"


def test_a_look_waits_for_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert look_at(tmp_path / "pipe").name == "NotRegularError"


def test_a_pipe_that_was_read_at_the_start_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writing = threading.Thread(target=path.write_bytes, args=(b"a secret",))
    writing.start()
    assert read_text(path) == "a secret"
    writing.join()
    assert read_text(path) == "a secret"
    assert look_at(path) == FileLook(b"a secret")
    path.unlink()
    assert look_at(path).name == "FileNotFoundError"


def test_what_was_seen_is_read_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("now")
    seen = {path: FileLook(b"then"), tmp_path / "gone": FileLook(b"", "PermissionError", "no")}
    with as_seen(lambda asked: seen[asked]):
        assert read_text(path) == "then"
        with pytest.raises(UnreadableError, match="gone cannot be read: PermissionError"):
            read_bytes(tmp_path / "gone")
    assert read_text(path) == "now"
