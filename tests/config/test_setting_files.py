"""The files that settings stand in: `hookmill.toml`, and a file for each secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookmill.config.settings import Settings, load_settings
from tests.config.support import SetEnv, faults, write_toml


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"port = = 1", "hookmill.toml: Invalid value (at line 1, column 8)"),
        (
            b'group = "\xff"',
            "hookmill.toml: 'utf-8' codec can't decode byte 0xff in position 9: invalid start byte",
        ),
    ],
)
def test_a_file_that_is_no_toml_is_a_fault_beside_the_others(
    setenv: SetEnv, folder: Path, raw: bytes, said: str
) -> None:
    (folder / "hookmill.toml").write_bytes(raw)
    setenv(PORT="x")

    found = faults()

    assert found[0] == said
    assert [fault.partition(":")[0] for fault in found] == ["hookmill.toml", "PORT"]


def test_a_file_that_cannot_be_read_is_a_fault(folder: Path) -> None:
    (folder / "hookmill.toml").mkdir()

    assert faults() == ["hookmill.toml cannot be read: Is a directory"]


@pytest.mark.parametrize("key", ["marble_webhook_secret", "QSTASH_CURRENT_SIGNING_KEY"])
def test_a_secret_in_the_file_is_a_fault_and_is_not_used(key: str) -> None:
    write_toml(f'{key} = "in-the-clear"')

    (fault,) = faults()

    assert fault.startswith(f"hookmill.toml: {key}: a secret does not belong in a file")
    assert Settings().marble_secrets == Settings().qstash_keys == []


def test_a_token_comes_from_its_variable_or_a_file_and_is_not_shown(
    setenv: SetEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    setenv(QSTASH_TOKEN=" the-token\n", QSTASH_URL="http://127.0.0.1:8081/")
    settings = load_settings()
    assert (settings.token, settings.qstash_url) == ("the-token", "http://127.0.0.1:8081")
    assert "the-token" not in f"{settings!r}{settings}"

    Path("token").write_text("from-a-file\n")
    monkeypatch.delenv("QSTASH_TOKEN")
    setenv(QSTASH_TOKEN_FILE="token")
    assert load_settings().token == "from-a-file"


def test_a_token_is_a_secret_like_the_others(setenv: SetEnv) -> None:
    write_toml('qstash_token = "in-the-clear"')
    setenv(QSTASH_TOKEN=" ")

    in_the_file, empty = faults()
    assert in_the_file.startswith("hookmill.toml: qstash_token: a secret does not belong in a file")
    assert "in-the-clear" not in in_the_file
    assert empty == "QSTASH_TOKEN is empty"


SECRETS = ["QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY", "MARBLE_WEBHOOK_SECRET"]


@pytest.mark.parametrize("variable", SECRETS)
@pytest.mark.parametrize("empty", ["", " ", "\t\n "])
def test_a_secret_that_came_out_empty_is_a_fault_and_not_a_missing_source(
    setenv: SetEnv, variable: str, empty: str
) -> None:
    setenv(**{"QSTASH_CURRENT_SIGNING_KEY": "given", variable: empty})

    assert faults() == [f"{variable} is empty: anyone could sign with it"]


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_is_read_from_the_file_that_its_variable_names(
    setenv: SetEnv, folder: Path, variable: str
) -> None:
    (folder / "secret").write_text("  from-a-file\n")
    setenv(QSTASH_CURRENT_SIGNING_KEY="given")
    setenv(**{variable: "", f"{variable}_FILE": str(folder / "secret")})

    settings = load_settings()

    assert "from-a-file" in [*settings.qstash_keys, *settings.marble_secrets]


def test_a_secrets_file_that_gives_none_is_a_fault(setenv: SetEnv, folder: Path) -> None:
    (folder / "empty").write_text("\n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    setenv(
        QSTASH_CURRENT_SIGNING_KEY_FILE="missing",
        QSTASH_NEXT_SIGNING_KEY_FILE="empty",
        MARBLE_WEBHOOK_SECRET_FILE="binary",
    )

    assert faults() == [
        "QSTASH_CURRENT_SIGNING_KEY_FILE: missing cannot be read: FileNotFoundError",
        "QSTASH_NEXT_SIGNING_KEY_FILE: empty is empty: anyone could sign with it",
        "MARBLE_WEBHOOK_SECRET_FILE: binary cannot be read: UnicodeDecodeError",
    ]


def test_a_files_name_that_came_out_empty_is_a_fault(setenv: SetEnv) -> None:
    setenv(MARBLE_WEBHOOK_SECRET_FILE="")

    assert faults() == ["MARBLE_WEBHOOK_SECRET_FILE is empty: anyone could sign with it"]


def test_a_secret_given_twice_is_a_fault_for_one_of_them_is_old(
    setenv: SetEnv, folder: Path
) -> None:
    (folder / "secret").write_text("one")
    setenv(MARBLE_WEBHOOK_SECRET="other", MARBLE_WEBHOOK_SECRET_FILE="secret")

    assert faults() == [
        "MARBLE_WEBHOOK_SECRET and MARBLE_WEBHOOK_SECRET_FILE are both set: keep one"
    ]


def test_spaces_and_line_ends_around_a_secret_do_not_belong_to_it(setenv: SetEnv) -> None:
    setenv(QSTASH_CURRENT_SIGNING_KEY=" one\n", QSTASH_NEXT_SIGNING_KEY="two ")

    assert load_settings().qstash_keys == ["one", "two"]


def test_the_redis_url_can_stand_in_a_file(setenv: SetEnv, folder: Path) -> None:
    (folder / "redis").write_text("redis://:hunter2@host:6379/0\n")
    setenv(REDIS_URL_FILE="redis")

    settings = load_settings()

    assert settings.need_redis_url() == "redis://:hunter2@host:6379/0"
    assert settings.redis_url_file == Path("redis")
    assert settings.redis_variable == "REDIS_URL_FILE"


def test_the_file_of_the_redis_url_can_be_named_in_the_toml(folder: Path) -> None:
    (folder / "redis").write_text("redis://host")
    write_toml('redis_url_file = "redis"')

    assert load_settings().need_redis_url() == "redis://host"


@pytest.mark.parametrize("line", ['redis_url = "redis://other"', 'redis_url_file = "missing"'])
def test_a_variable_that_names_redis_goes_before_both_settings_of_the_toml(
    setenv: SetEnv, folder: Path, line: str
) -> None:
    write_toml(line)
    setenv(REDIS_URL="redis://host")
    assert load_settings().need_redis_url() == "redis://host"
    assert load_settings().redis_url_file is None

    (folder / "redis").write_text("redis://:hunter2@host")
    setenv(REDIS_URL="", REDIS_URL_FILE="redis")
    assert load_settings().need_redis_url() == "redis://:hunter2@host"
    assert load_settings().redis_url_file == Path("redis")


@pytest.mark.parametrize(
    ("text", "env", "said"),
    [
        (None, {}, "REDIS_URL_FILE: redis cannot be read: FileNotFoundError"),
        ("redis://h", {"REDIS_URL": "redis://h"}, "REDIS_URL and REDIS_URL_FILE are both set"),
        ("", {}, "REDIS_URL_FILE: redis: give redis://HOST:PORT/NUMBER"),
        ("hunter2@host", {}, "REDIS_URL_FILE: redis: give redis://HOST:PORT/NUMBER"),
    ],
    ids=["missing", "both", "empty", "no URL"],
)
def test_a_file_without_a_redis_url_is_a_fault_that_does_not_show_it(
    setenv: SetEnv, folder: Path, text: str | None, env: dict[str, str], said: str
) -> None:
    if text is not None:
        (folder / "redis").write_text(text)
    setenv(REDIS_URL_FILE="redis", **env)

    (fault,) = faults()

    assert fault.startswith(said)
    assert "hunter2" not in fault
