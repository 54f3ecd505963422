"""What counts of a file that changes: a content that two looks in a row have found."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from hookmill.config.files import FileLook
from receiver.file_looks import FileLooks


def test_a_content_counts_once_two_looks_agree(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    looks = FileLooks([path])
    assert looks.content(path) == FileLook(b"old")
    path.write_text("ne")
    assert not looks.look([path])
    path.write_text("new")
    assert not looks.look([path])
    assert looks.content(path) == FileLook(b"old")
    assert looks.look([path])
    assert looks.content(path) == FileLook(b"new")
    assert not looks.look([path])


def test_a_file_that_is_away_for_one_look_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    looks = FileLooks([path])
    path.unlink()
    assert not looks.look([path])
    path.write_text("old")
    assert not looks.look([path])
    assert not looks.look([path])
    path.unlink()
    looks.look([path])
    assert looks.look([path])
    assert looks.content(path).name == "FileNotFoundError"


def test_a_new_file_is_known_after_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("one")
    looks = FileLooks([])
    assert not looks.look([path])
    assert not looks.is_known(path)
    assert looks.look([path])
    assert looks.is_known(path)
    looks.look([])
    assert not looks.is_known(path)


@given(st.lists(st.sampled_from(["a", "b", "", None]), max_size=12))
def test_what_counts_was_there_at_the_start_or_at_two_looks_in_a_row(
    contents: list[str | None],
) -> None:
    with TemporaryDirectory() as folder:
        compare(Path(folder) / "secret", contents)


def compare(path: Path, contents: list[str | None]) -> None:
    looks = FileLooks([path])
    allowed = {looks.content(path)}
    seen = [looks.content(path)]
    for content in contents:
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(content)
        looks.look([path])
        seen.append(FileLook(content.encode()) if content is not None else seen[0])
        if seen[-1] == seen[-2]:
            allowed = {seen[-1]}
        assert looks.content(path) in allowed
