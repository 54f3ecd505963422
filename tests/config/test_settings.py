"""The settings: where they come from, which one wins, and that every fault is told at once."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hookmill.config.settings import Settings, load_settings, unknown_variables, variable_of
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import sources_of
from hookmill.errors import SettingsError
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS

SetEnv = Callable[..., None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, without a `hookmill.toml`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> SetEnv:
    """Set variables for the rest of the test."""

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def write_toml(text: str) -> None:
    Path("hookmill.toml").write_text(text)


def faults(**overrides: Any) -> list[str]:
    """Return what `load_settings` finds wrong."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # a chained error would show the input, secrets and all
    return list(caught.value.faults)


def test_nothing_set_is_enough_to_read_the_settings() -> None:
    settings = load_settings()

    assert (settings.port, settings.redis_url, settings.group) == (8080, None, "main")
    assert (settings.qstash_keys, settings.marble_secrets) == ([], [])
    assert (settings.path_of("qstash"), settings.path_of("marble")) == ("/qstash", "/marble")
    assert settings.options_of("marble") == SourceOptions(
        path=None, ordered_by=None, id=None, timestamped=False
    )
    assert settings.partitions == 1


def test_what_needs_redis_says_how_to_name_it(setenv: SetEnv) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL is not set"):
        load_settings().need_redis_url()

    setenv(REDIS_URL="redis://host:6379/0")
    assert load_settings().need_redis_url() == "redis://host:6379/0"


def test_the_variables_are_the_promised_ones() -> None:
    named = {field: variable_of(field) for field in Settings.model_fields}
    outside = {name: variable for name, variable in named.items() if "HOOKMILL" not in variable}

    assert outside == {
        "redis_url": "REDIS_URL",
        "port": "PORT",
        "qstash_current_signing_key": "QSTASH_CURRENT_SIGNING_KEY",
        "qstash_next_signing_key": "QSTASH_NEXT_SIGNING_KEY",
        "marble_webhook_secret": "MARBLE_WEBHOOK_SECRET",
        "qstash_token": "QSTASH_TOKEN",
        "qstash_url": "QSTASH_URL",
    }
    assert {
        "HOOKMILL_PUBLIC_URL",
        "HOOKMILL_DEVELOPMENT",
        "HOOKMILL_LEASE",
        "HOOKMILL_RETENTION",
        "HOOKMILL_GROUP",
        "HOOKMILL_HANDLERS",
        "HOOKMILL_PARTITIONS",
    } <= set(named.values())


def test_the_command_line_beats_the_environment_which_beats_the_file(setenv: SetEnv) -> None:
    write_toml('port = 1\nredis_url = "redis://toml"\nlease = 11\ngroup = "toml"\nretention = 21')
    setenv(PORT="2", REDIS_URL="redis://env", HOOKMILL_LEASE="12", HOOKMILL_GROUP="env")

    settings = load_settings(port=3, redis_url=None, group="option", concurrency=None)

    assert settings.port == 3
    assert settings.redis_url == "redis://env"
    assert settings.lease == 12
    assert settings.group == "option"
    assert settings.retention == 21
    assert settings.concurrency == 100


def test_an_empty_variable_counts_as_one_that_is_not_set(setenv: SetEnv) -> None:
    write_toml("lease = 11")
    setenv(HOOKMILL_LEASE="", REDIS_URL="", PORT="", HOOKMILL_DEVELOPMENT="")

    settings = load_settings()

    assert (settings.lease, settings.redis_url, settings.port) == (11, None, 8080)
    assert settings.development is False


SECRET_IN_FILE = (
    "hookmill.toml: marble_webhook_secret: a secret does not belong in a file that git may keep; "
    "set MARBLE_WEBHOOK_SECRET, or MARBLE_WEBHOOK_SECRET_FILE to the path of a file that holds it"
)
BAD_PATH = (
    "hookmill.toml: sources.marble.path: begin the path with / and write it as it is requested, "
    "without ? and # (got 'no-slash')"
)


def test_every_fault_is_told_at_once_by_the_name_it_was_given_under(
    setenv: SetEnv, folder: Path
) -> None:
    write_toml(
        """
        concurency = 5
        concurrency = 0
        marble_webhook_secret = "shh"
        [sources.marble]
        path = "no-slash"
        timestampd = true
        """
    )
    setenv(
        PORT="eighty",
        REDIS_URL="localhost:6379",
        HOOKMILL_LEASE="0.1",
        HOOKMILL_LOG_FORMAT="xml",
        HOOKMILL_SOURCES__QSTASH__PATH="/q?x",
        QSTASH_CURRENT_SIGNING_KEY=DEVELOPMENT_KEYS[0],
        QSTASH_NEXT_SIGNING_KEY_FILE="missing",
        MARBLE_WEBHOOK_SECRET="",
    )

    found = faults(group="a:b")

    assert sorted(fault.partition(": ")[0] for fault in found) == [
        "--group",
        "HOOKMILL_LEASE",
        "HOOKMILL_LOG_FORMAT",
        "HOOKMILL_SOURCES__QSTASH__PATH",
        "MARBLE_WEBHOOK_SECRET is empty",
        "PORT",
        "QSTASH_NEXT_SIGNING_KEY_FILE",
        "REDIS_URL",
        "hookmill.toml",
        "hookmill.toml",
        "hookmill.toml",
        "hookmill.toml",
        "hookmill.toml",
        "the signing keys are public development keys",
    ]
    assert sorted(fault for fault in found if fault.startswith("hookmill.toml")) == [
        "hookmill.toml: concurency: there is no such setting, check its spelling",
        "hookmill.toml: concurrency: Input should be greater than or equal to 1 (got 0)",
        SECRET_IN_FILE,
        BAD_PATH,
        "hookmill.toml: sources.marble.timestampd: there is no such setting, check its spelling",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PORT", "65536", "PORT: Input should be less than or equal to 65535 (got '65536')"),
        ("HOOKMILL_LEASE", "nan", "HOOKMILL_LEASE: Input should be a finite number (got 'nan')"),
        ("HOOKMILL_GRACE", "inf", "HOOKMILL_GRACE: Input should be a finite number (got 'inf')"),
        ("HOOKMILL_DEDUP_WINDOW", "9" * 30, "HOOKMILL_DEDUP_WINDOW: Input should be less than"),
        ("HOOKMILL_PARTITIONS", "0", "HOOKMILL_PARTITIONS: Input should be greater than or equal"),
        ("HOOKMILL_PARTITIONS", "65", "HOOKMILL_PARTITIONS: Input should be less than or equal to"),
        ("HOOKMILL_PARTITIONS", "2.5", "HOOKMILL_PARTITIONS: Input should be a valid integer"),
        ("HOOKMILL_PREFIX", "a{b}", "HOOKMILL_PREFIX: use ASCII letters, digits, - _ and . ("),
        ("HOOKMILL_GROUP", "a b", "HOOKMILL_GROUP: use ASCII letters, digits, - _ and . ("),
        ("HOOKMILL_PUBLIC_URL", "app.example", "HOOKMILL_PUBLIC_URL: give the base URL that"),
        ("HOOKMILL_SOURCES", "{", "HOOKMILL_SOURCES: Input should be a valid dictionary"),
        (
            "HOOKMILL_SOURCES__MARBLE__PATH",
            "/readyz",
            "HOOKMILL_SOURCES__MARBLE__PATH: the receiver itself answers on this path",
        ),
        (
            "HOOKMILL_SOURCES__MARBLE__PATH",
            "/qstash",
            "sources.qstash and sources.marble share /qstash: give one another path",
        ),
        (
            "HOOKMILL_SOURCES__ACME__PATH",
            "/acme",
            "sources.acme: there is no such sender: name one with preset, or describe how it signs",
        ),
        (
            "HOOKMILL_SOURCES__QSTASH__TIMESTAMPED",
            "1",
            "sources.qstash.timestamped: only marble has a timestamped form",
        ),
        (
            "HOOKMILL_SOURCES__MARBLE__ID",
            "header",
            "sources.marble.id: 'header' is no place: write header:NAME, json:PATH or form:NAME",
        ),
    ],
)
def test_a_value_that_cannot_work_is_a_fault(
    setenv: SetEnv, variable: str, value: str, said: str
) -> None:
    setenv(**{variable: value})

    (fault,) = faults()

    assert fault.startswith(said)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "localhost",
        "http://:hunter2@host",
        "redis://:hunter2@",
        "redis://:hunter2@host:port",
        "redis://:hunter2@host:99999",
        "redis://:hunter2#2@host:6379",
        "redis://:hunter2@[host",
        "unix://",
    ],
)
def test_a_redis_url_that_names_no_server_is_a_fault_that_does_not_show_it(
    setenv: SetEnv, url: str
) -> None:
    setenv(REDIS_URL=url)

    assert faults() == [
        (
            "REDIS_URL: give redis://HOST:PORT/NUMBER, rediss:// for TLS, or unix://PATH; special "
            "characters in a password are written as %XX"
        )
    ]


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%23ss@host:6379/2",
        "rediss://user:pass@host.example:6380/0?ssl_cert_reqs=required",
        "unix:///run/redis.sock?db=1",
        "redis://[::1]:6379",
    ],
)
def test_every_form_of_a_redis_url_is_taken(setenv: SetEnv, url: str) -> None:
    setenv(REDIS_URL=url)

    assert load_settings().redis_url == url


def test_the_public_url_is_kept_without_its_last_slash(setenv: SetEnv) -> None:
    setenv(HOOKMILL_PUBLIC_URL="https://app.example/base/")

    assert load_settings().public_url == "https://app.example/base"


def test_the_file_says_where_and_how_a_source_is_received(setenv: SetEnv) -> None:
    write_toml('[sources.marble]\ntimestamped = true\npath = "/cms"\n[sources.qstash]\npath = "/"')

    settings = load_settings()

    assert settings.path_of("marble") == "/cms"
    assert settings.options_of("marble").timestamped is True
    assert settings.path_of("qstash") == "/"
    assert settings.options_of("qstash").timestamped is False


def test_the_environment_changes_one_option_of_a_source_and_leaves_the_others(
    setenv: SetEnv,
) -> None:
    write_toml('[sources.marble]\ntimestamped = true\npath = "/cms"')
    setenv(HOOKMILL_SOURCES__MARBLE__PATH="/env")

    settings = load_settings()

    assert settings.path_of("marble") == "/env"
    assert settings.options_of("marble").timestamped is True


@pytest.mark.parametrize("count", [1, 2, 64])
def test_the_stream_may_be_split(setenv: SetEnv, count: int) -> None:
    setenv(HOOKMILL_PARTITIONS=str(count))
    assert load_settings().partitions == count


def test_the_file_says_what_a_sources_messages_are_ordered_by_and_named_after() -> None:
    write_toml('[sources.marble]\nordered_by = "data.id"\n[sources.qstash]\nid = "body"')

    settings = load_settings()

    assert settings.options_of("marble") == SourceOptions(ordered_by="data.id")
    assert settings.options_of("qstash") == SourceOptions(id=("body",))


def test_the_environment_says_it_as_well_in_any_case(setenv: SetEnv) -> None:
    write_toml('[sources.marble]\nordered_by = "id"\npath = "/cms"')
    setenv(HOOKMILL_SOURCES__marble__ordered_by="data.id", HOOKMILL_SOURCES__QSTASH__ID="body")

    settings = load_settings()

    assert settings.options_of("marble") == SourceOptions(path="/cms", ordered_by="data.id")
    assert settings.options_of("qstash") == SourceOptions(id=("body",))
    assert unknown_variables() == []


@pytest.mark.parametrize(
    "path", ["id", "data.id", "data.order.id", "order id", "größe.nr", "$.0", "5", "true", "a-b_c"]
)
def test_a_dotted_path_leads_to_the_ordering_key(setenv: SetEnv, path: str) -> None:
    setenv(HOOKMILL_SOURCES__MARBLE__ORDERED_BY=path)
    assert load_settings().options_of("marble").ordered_by == path
    assert len(sources_of(load_settings(marble_webhook_secret="hush"))) == 1  # it can be followed


EMPTY_NAME = (
    "a name in it is empty: write the names that lead to the value in the JSON body with one dot "
    "between them, such as data.id"
)
ODD_NAME = (
    "a name in it begins or ends with a space, or has a quotation mark, a backslash or a character "
    "that cannot be printed"
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", EMPTY_NAME),
        (".", EMPTY_NAME),
        (".id", EMPTY_NAME),
        ("data.", EMPTY_NAME),
        ("data..id", EMPTY_NAME),
        (" ", ODD_NAME),
        ("data. id", ODD_NAME),
        ("data.id ", ODD_NAME),
        ('"data".id', ODD_NAME),
        ("data\\id", ODD_NAME),
        ("data.id\n", ODD_NAME),
        ("data.\x7f", ODD_NAME),
        ("data.\u200b", ODD_NAME),
    ],
)
def test_a_path_that_leads_nowhere_is_a_fault(path: str, said: str) -> None:
    write_toml(f"sources.marble.ordered_by = {json.dumps(path)}")

    assert faults() == [f"hookmill.toml: sources.marble.ordered_by: {said} (got {path!r})"]


@pytest.mark.parametrize("path", ["data..id", "data.\udcff"])
def test_such_a_path_in_the_environment_is_a_fault_as_well(setenv: SetEnv, path: str) -> None:
    setenv(HOOKMILL_SOURCES__MARBLE__ORDERED_BY=path)

    (fault,) = faults()

    assert fault.startswith("HOOKMILL_SOURCES__MARBLE__ORDERED_BY: a name in it ")
    fault.encode()  # it can be printed


@pytest.mark.parametrize("given", ["5", "true", '["data", "id"]'])
def test_a_path_is_text(given: str) -> None:
    write_toml(f"sources.marble.ordered_by = {given}")

    (fault,) = faults()

    assert fault.startswith("hookmill.toml: sources.marble.ordered_by: Input should be a valid str")


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


# --- what the sender reaches QStash with ---


def test_the_sender_has_a_service_to_reach_and_no_token_of_its_own() -> None:
    settings = load_settings()

    assert (settings.token, settings.qstash_url) == (None, "https://qstash.upstash.io")


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


@pytest.mark.parametrize(
    "url",
    [
        "qstash.upstash.io",
        "ftp://qstash.example",
        "https://",
        "https://a.example:port",
        "https://token-5@a.example",
        "https://a.example?qstash_token=token-5",
        "https://a.example/#token-5",
        "https://a b.example",
    ],
)
def test_what_is_no_base_url_is_a_fault_that_does_not_show_it(setenv: SetEnv, url: str) -> None:
    setenv(QSTASH_URL=url)

    (fault,) = faults()
    assert fault.startswith("QSTASH_URL: give the base URL of QStash's API")
    assert "token-5" not in fault


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


def test_a_secret_that_is_no_text_is_a_fault(setenv: SetEnv) -> None:
    setenv(MARBLE_WEBHOOK_SECRET="caf\udce9")  # as the environment shows a byte of Latin-1

    assert faults() == ["MARBLE_WEBHOOK_SECRET is not text in UTF-8"]


def test_spaces_and_line_ends_around_a_secret_do_not_belong_to_it(setenv: SetEnv) -> None:
    setenv(QSTASH_CURRENT_SIGNING_KEY=" one\n", QSTASH_NEXT_SIGNING_KEY="two ")

    assert load_settings().qstash_keys == ["one", "two"]


def test_the_next_key_alone_is_a_fault(setenv: SetEnv) -> None:
    setenv(QSTASH_NEXT_SIGNING_KEY="two")

    assert faults() == [
        "QSTASH_NEXT_SIGNING_KEY is set, QSTASH_CURRENT_SIGNING_KEY is not: set both"
    ]


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("QSTASH_CURRENT_SIGNING_KEY", DEVELOPMENT_KEYS[0]),
        ("QSTASH_CURRENT_SIGNING_KEY", f" {DEVELOPMENT_KEYS[1]}\n"),
        ("QSTASH_NEXT_SIGNING_KEY", DEVELOPMENT_KEYS[1]),
        ("MARBLE_WEBHOOK_SECRET", DEVELOPMENT_SECRET),
        ("MARBLE_WEBHOOK_SECRET", DEVELOPMENT_KEYS[0]),
    ],
)
def test_a_public_development_key_is_refused_unless_development_is_asked_for(
    setenv: SetEnv, folder: Path, variable: str, key: str
) -> None:
    setenv(**{"QSTASH_CURRENT_SIGNING_KEY": "own", variable: key})

    (fault,) = faults()
    assert fault.startswith("the signing keys are public development keys")

    for refusal in ("0", "false", "off", "no"):
        setenv(HOOKMILL_DEVELOPMENT=refusal)
        assert len(faults()) == 1
    setenv(HOOKMILL_DEVELOPMENT="1")
    assert load_settings().development is True


def test_a_development_key_in_a_file_is_refused_as_well(setenv: SetEnv, folder: Path) -> None:
    (folder / "secret").write_text(DEVELOPMENT_SECRET)
    setenv(MARBLE_WEBHOOK_SECRET_FILE="secret")

    (fault,) = faults()

    assert "public development keys" in fault


def test_misspelt_variables_are_found(setenv: SetEnv) -> None:
    setenv(
        HOOKMILL_LEASE="5",
        HOOKMILL_SOURCES__MARBLE__PATH="/m",
        HOOKMILL_LEAES="5",
        HOOKMILL_PORT="80",
        HOOKMILL_LEASE__MAX="5",
        HOOKMIL_LEASE="5",
    )

    assert unknown_variables() == ["HOOKMILL_LEAES", "HOOKMILL_LEASE__MAX", "HOOKMILL_PORT"]
    load_settings()


@pytest.mark.parametrize(
    "line",
    [
        'secrets = "{}"', 'secrets = ["{}"]', 'secrets = {{value = "{}"}}',
        'secrets = [{{env = "A", value = "{}"}}]', 'verify_token = "{}"',
        'verify_token = {{value = "{}"}}', 'secret = "{}"', 'key = "{}"', 'key_prefix = ["{}"]',
        'webhook_secret = "{}"', 'id = {{x = "{}"}}',
    ],
)  # fmt: skip
def test_a_secret_that_was_written_into_a_sources_table_is_refused_and_never_shown(
    line: str,
) -> None:
    write_toml("[sources.github]\n" + line.format("hush-hush-1"))
    (fault, *_) = found = faults()
    assert "hush" not in str(found)
    assert "sources.github" in fault


def test_settings_are_frozen_down_to_the_sources() -> None:
    write_toml('[sources.marble]\npath = "/cms"')
    settings: Any = load_settings()

    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError):
        settings.sources["marble"].path = "/other"
    with pytest.raises(TypeError):
        settings.sources["qstash"] = settings.sources["marble"]


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# Long enough not to be found by chance in a fault's own words.
SECRET = st.text(string.ascii_letters + string.digits, min_size=12, max_size=20) | st.text(
    string.ascii_letters + string.digits + "/+=#@:?%&", min_size=12, max_size=20
)
Place = Callable[[str], dict[str, str]]
SOUND: list[Place] = [
    lambda secret: {"QSTASH_CURRENT_SIGNING_KEY": secret},
    lambda secret: {"QSTASH_CURRENT_SIGNING_KEY": "x", "QSTASH_NEXT_SIGNING_KEY": secret},
    lambda secret: {"MARBLE_WEBHOOK_SECRET": secret},
    lambda secret: {"REDIS_URL": f"redis://:{secret}@host:6379/0"},
]
FAULTY: list[Place] = [
    lambda secret: {"QSTASH_NEXT_SIGNING_KEY": secret},
    lambda secret: {"MARBLE_WEBHOOK_SECRET": f"{secret}\udcff"},
    lambda secret: {"REDIS_URL": f"redis://:{secret}@host:port"},
    lambda secret: {"REDIS_URL": f"redis://:p@host:{secret}"},
    lambda secret: {"REDIS_URL": f"{secret}@host"},
    lambda secret: {"HOOKMILL_SOURCES__MARBLE__SECRET": secret},
    lambda secret: {"HOOKMILL_SOURCES__MARBLE": secret},
    lambda secret: {"HOOKMILL_SOURCES": secret},
    lambda _: {"HOOKMILL_LEASE": "x"},
]


@given(
    secret=SECRET, sound=st.sampled_from(SOUND), faulty=st.none() | st.sampled_from(FAULTY),
    in_file=st.booleans(),
)  # fmt: skip
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_secret_is_shown_in_a_fault_nor_in_the_settings_shown(
    folder: Path, secret: str, sound: Place, faulty: Place | None, in_file: bool
) -> None:
    in_the_file = f'sources.marble.secret = "{secret}"\nmarble_webhook_secret = "{secret}"'
    write_toml(in_the_file if in_file else "")

    with environment(sound(secret) | (faulty(secret) if faulty else {})):
        try:
            settings = load_settings()
        except SettingsError as error:
            shown = f"{error}{error!r}{error.__context__!r}"
        else:
            shown = f"{settings}{settings!r}"

    assert secret not in shown


def test_a_secret_that_is_not_even_text_is_not_shown() -> None:
    assert faults(marble_webhook_secret=["shh"]) == [
        "--marble_webhook_secret: Input should be a valid string"
    ]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("memory", "memory"),
        ("aof", "aof"),
        ("replicas:1", "replicas:1"),
        ("replicas:07", "replicas:7"),
    ],
)
def test_a_durability_level_is_read(setenv: SetEnv, given: str, read: str) -> None:
    setenv(HOOKMILL_DURABILITY=given)
    assert load_settings().durability == read


@pytest.mark.parametrize(
    "given", ["disk", "AOF", "replicas", "replicas:", "replicas:0", "replicas:²"]
)
def test_another_durability_level_is_a_fault(setenv: SetEnv, given: str) -> None:
    setenv(HOOKMILL_DURABILITY=given)
    assert faults() == [
        f"HOOKMILL_DURABILITY: use memory, aof, or replicas:N with N from 1 to 99 (got {given!r})"
    ]


def test_a_queue_into_which_the_largest_body_never_fits_is_a_fault(setenv: SetEnv) -> None:
    setenv(HOOKMILL_QUEUE_BYTES="1000")
    assert faults() == [
        "HOOKMILL_QUEUE_BYTES is less than HOOKMILL_BODY_LIMIT: give it as many bytes"
    ]
    setenv(HOOKMILL_BODY_LIMIT="1000")
    assert load_settings().queue_bytes == 1000
