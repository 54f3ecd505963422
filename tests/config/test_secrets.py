"""Where signing secrets stand, and from when until when they count."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hookmill.config import secrets
from hookmill.config.secrets import SecretRef, default_refs, find
from hookmill.signatures import Secret

LONG = "long enough a secret"


def refs(*given: Any) -> list[SecretRef]:
    return [SecretRef.model_validate(one) for one in given]


def read(*given: Any) -> list[Secret]:
    found = find(refs(*given))
    assert found.faults == ()
    return [one.secret for one in found.secrets]


def test_a_secret_is_read_from_a_variable_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_SECRET", LONG)
    path = tmp_path / "secret"
    path.write_text(f"  {LONG} 2 \n")
    found = read("env:GITHUB_SECRET", f"file:{path}")
    assert found == [Secret(LONG, "env:GITHUB_SECRET"), Secret(f"{LONG} 2", "file:secret")]


def test_a_file_may_hold_several_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("It's a Secret to Everybody\n\n  another secret\r\n")
    assert [one.text for one in read(f"file:{path}")] == [
        "It's a Secret to Everybody",
        "another secret",
    ]


@pytest.mark.parametrize(
    ("starts", "until", "expected"),
    [
        (None, None, (-math.inf, math.inf)),
        ("2026-11-21T00:00:00Z", None, (1_795_219_200.0, math.inf)),
        (None, "2026-11-21T01:00:00+01:00", (-math.inf, 1_795_219_200.0)),
        ("2026-11-21T00:00:00", None, (1_795_219_200.0, math.inf)),  # UTC unless it says otherwise
    ],
)
def test_a_secret_may_count_for_a_time_only(
    monkeypatch: pytest.MonkeyPatch,
    starts: str | None,
    until: str | None,
    expected: tuple[float, float],
) -> None:
    monkeypatch.setenv("S", LONG)
    (found,) = read({"env": "S", "from": starts, "until": until})
    assert (found.starts, found.ends) == expected


def test_a_time_begins_with_its_first_moment_and_ends_before_its_last() -> None:
    secret = Secret(LONG, starts=10, ends=20)
    assert [secret.counts_at(now) for now in (9.9, 10, 19.9, 20)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "{path} cannot be read: FileNotFoundError"),
        (b"", "file:{path} is empty: anyone could sign with it"),
        (b" \n\t\n", "file:{path} is empty: anyone could sign with it"),
        (b"\xff\xfe", "{path} cannot be read: UnicodeDecodeError"),
        (
            b"a secret of ours\n  # hush, the old one\nthe old secret",
            (
                "file:{path}, line 2: it begins with # like a comment, but each line is a secret: "
                "remove it"
            ),
        ),
        (
            b"-----BEGIN PUBLIC KEY-----\nhush\n-----END PUBLIC KEY-----\n",
            "file:{path} holds a PEM file: give the secret as the sender shows it",
        ),
        (b"x" * (1024 * 1024 + 1), "{path} cannot be read: TooLargeError"),
    ],
    ids=["missing", "empty", "blank", "binary", "comment", "PEM", "large"],
)
def test_what_is_wrong_with_a_file_is_said_without_its_text(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    assert find(refs(f"file:{path}")).faults == (said.format(path=path),)


def test_a_line_that_is_wrong_takes_nothing_from_the_others(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"# ours\n{LONG}\n#hush")
    found = find(refs(f"file:{tmp_path}/secret", "env:UNSET"))
    assert [one.secret.text for one in found.secrets] == [LONG]
    assert len(found.faults) == 3


def test_a_variable_with_several_lines_holds_no_comment_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("S", f"{LONG}\n# hush")
    (fault,) = find(refs("env:S")).faults
    assert fault.startswith("env:S, line 2: it begins with #")
    assert "hush" not in fault
    monkeypatch.setenv("S", "#that is a secret")
    assert [one.text for one in read("env:S")] == ["#that is a secret"]


def test_a_mark_of_the_byte_order_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(LONG, "utf-8-sig")
    assert [one.text for one in read(f"file:{tmp_path}/secret")] == [LONG]


@pytest.mark.parametrize(
    "given",
    ["hush hush secret", "env:", "file:", "vault:x", {}, {"env": "A", "file": "b"}, {"envv": "A"}],
)
def test_what_is_no_reference_is_refused_and_not_shown(given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        SecretRef.model_validate(given)
    assert "hush" not in str(caught.value.errors(include_input=False, include_url=False))


def test_without_a_word_a_source_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_refs("my-shop.eu") == (SecretRef(env="MY_SHOP_EU_WEBHOOK_SECRET"),)
    monkeypatch.setenv("MY_SHOP_EU_WEBHOOK_SECRET_FILE", "/run/secret")
    assert default_refs("my-shop.eu") == (SecretRef(file=Path("/run/secret")),)


def test_a_secret_never_shows_its_text() -> None:
    assert LONG not in repr(Secret(LONG, "env:S")) + repr(Secret(LONG)) + str([Secret(LONG)])
    assert secrets.SHORTEST == 8
