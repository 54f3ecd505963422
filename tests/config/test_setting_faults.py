"""What is wrong with the settings: all at once, by the name that was used, without a secret."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hookmill.config.settings import load_settings
from hookmill.errors import SettingsError
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS
from tests.config.support import SetEnv, faults, write_toml

SECRET_IN_FILE = (
    "hookmill.toml: marble_webhook_secret: a secret does not belong in a file that git may keep; "
    "set MARBLE_WEBHOOK_SECRET, or MARBLE_WEBHOOK_SECRET_FILE to the path of a file that holds it"
)


BAD_PATH = (
    "hookmill.toml: sources.marble.path: begin the path with / and write it as it is requested, "
    "without ? and # (got 'no-slash')"
)


def test_every_fault_is_reported_at_once_with_the_name_of_its_setting(
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


def test_a_secret_that_is_no_text_is_a_fault(setenv: SetEnv) -> None:
    setenv(MARBLE_WEBHOOK_SECRET="caf\udce9")  # as the environment shows a byte of Latin-1

    assert faults() == ["MARBLE_WEBHOOK_SECRET is not text in UTF-8"]


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


def test_a_queue_into_which_the_largest_body_never_fits_is_a_fault(setenv: SetEnv) -> None:
    setenv(HOOKMILL_QUEUE_BYTES="1000")
    assert faults() == [
        "HOOKMILL_QUEUE_BYTES is less than HOOKMILL_BODY_LIMIT: give it as many bytes"
    ]
    setenv(HOOKMILL_BODY_LIMIT="1000")
    assert load_settings().queue_bytes == 1000


def test_more_stuck_threads_than_threads_is_a_fault_and_never_is_said_with_0(
    setenv: SetEnv,
) -> None:
    setenv(HOOKMILL_THREADS="4", HOOKMILL_STUCK_THREADS="5")
    (fault,) = faults()
    assert fault.startswith("HOOKMILL_STUCK_THREADS is more than HOOKMILL_THREADS")
    setenv(HOOKMILL_STUCK_THREADS="0")
    assert load_settings().stuck_limit == 0


def test_the_time_for_load_balancers_leaves_some_for_deliveries(setenv: SetEnv) -> None:
    setenv(HOOKMILL_DRAIN="25")
    (fault,) = faults()
    assert fault.startswith("HOOKMILL_DRAIN: 25 s must be less than HOOKMILL_SHUTDOWN (25 s)")
    setenv(HOOKMILL_DRAIN="24.5")
    assert load_settings().drain == 24.5
