"""The settings: where they come from, and which one wins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from hookmill.config.settings import Settings, load_settings, unknown_variables, variable_of
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import sources_of
from hookmill.errors import SettingsError
from tests.config.support import SetEnv, faults, write_toml


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
        "redis_url_file": "REDIS_URL_FILE",
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
    assert (
        len(sources_of(load_settings(marble_webhook_secret="hush, all"))) == 1
    )  # it can be followed


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


# --- what the sender reaches QStash with ---


def test_the_sender_has_a_service_to_reach_and_no_token_of_its_own() -> None:
    settings = load_settings()

    assert (settings.token, settings.qstash_url) == (None, "https://qstash.upstash.io")


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


def test_settings_are_frozen_down_to_the_sources() -> None:
    write_toml('[sources.marble]\npath = "/cms"')
    settings: Any = load_settings()

    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError):
        settings.sources["marble"].path = "/other"
    with pytest.raises(TypeError):
        settings.sources["qstash"] = settings.sources["marble"]


@pytest.mark.parametrize(("threads", "limit"), [(1, 1), (2, 1), (3, 1), (16, 8)])
def test_a_worker_ends_when_half_of_its_threads_are_stuck(threads: int, limit: int) -> None:
    assert load_settings(threads=threads).stuck_limit == limit
