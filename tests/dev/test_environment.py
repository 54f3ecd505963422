"""What `hookmill dev` sets for its programs, and what of the user's own it leaves."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hookmill.config.settings import load_settings
from hookmill.dev import environment
from hookmill.emulator.credentials import DEVELOPMENT_TOKEN
from hookmill.errors import SettingsError
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS
from tests.ports import free_port
from tests.support import CURRENT_KEY

KEYS = ("QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY", "MARBLE_WEBHOOK_SECRET")
CONSOLE = "HOOKMILL_CONSOLE_TOKEN"
PRODUCTION = "redis://:hunter2@production"


@pytest.fixture(autouse=True)
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The variables of a process that has none."""
    monkeypatch.chdir(tmp_path)
    variables = {"USER": "ada"}
    monkeypatch.setattr(os, "environ", variables)
    return variables


def make() -> environment.Made:
    environment.set_defaults(on_redis_url=False)
    return environment.make_secrets(load_settings())


def test_a_token_of_the_console_that_the_user_has_set_stays(
    env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-token-of-the-user's-own")
    env["HOOKMILL_CONSOLE_TOKEN_FILE"] = "token"
    assert CONSOLE not in make().variables


def test_each_run_has_keys_and_a_token_of_its_own(env: dict[str, str]) -> None:
    first = make().variables
    assert sorted(first) == sorted((*KEYS, CONSOLE, "QSTASH_TOKEN", "QSTASH_URL"))
    assert {name: env[name] for name in first} == first
    for name in first:
        del env[name]
    second = make().variables
    secrets = [run[name] for run in (first, second) for name in (*KEYS, "QSTASH_TOKEN", CONSOLE)]
    assert len({*secrets, *DEVELOPMENT_KEYS, DEVELOPMENT_SECRET}) == len(secrets) + 3
    assert not load_settings().development


def test_the_public_keys_are_used_where_the_settings_ask_for_them(env: dict[str, str]) -> None:
    env["HOOKMILL_DEVELOPMENT"] = "1"
    made = make().variables
    assert [made[name] for name in KEYS] == [*DEVELOPMENT_KEYS, DEVELOPMENT_SECRET]
    assert made["QSTASH_TOKEN"].startswith("dev_")


@pytest.mark.parametrize("name", [KEYS[0], KEYS[0].lower(), KEYS[2], f"{KEYS[2]}_FILE"])
def test_keys_of_the_users_own_stay(env: dict[str, str], tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text(CURRENT_KEY)
    env[name] = "secret" if name.endswith("_FILE") else CURRENT_KEY
    assert sorted(make().variables) == [CONSOLE, "QSTASH_TOKEN", "QSTASH_URL"]


def test_a_token_of_the_users_own_stays(env: dict[str, str]) -> None:
    env["QSTASH_TOKEN"] = "my-own-token"
    assert "QSTASH_TOKEN" not in make().variables
    assert env["QSTASH_TOKEN"] == "my-own-token"


def test_a_published_token_goes_with_the_published_keys_only(env: dict[str, str]) -> None:
    env["QSTASH_TOKEN"] = DEVELOPMENT_TOKEN
    with pytest.raises(SettingsError, match=r"published token .* HOOKMILL_DEVELOPMENT=1"):
        make()
    env["HOOKMILL_DEVELOPMENT"] = "1"
    assert make().variables["QSTASH_CURRENT_SIGNING_KEY"] == DEVELOPMENT_KEYS[0]
    assert env["QSTASH_TOKEN"] == DEVELOPMENT_TOKEN


def test_where_a_service_is_named_no_emulator_runs_and_no_token_is_made(
    env: dict[str, str],
) -> None:
    env["QSTASH_URL"] = "https://qstash.example"
    made = make()
    assert not made.has_emulator
    assert sorted(made.variables) == sorted((*KEYS, CONSOLE))


def test_the_emulator_has_the_port_after_the_receivers_unless_something_listens_there(
    env: dict[str, str],
) -> None:
    port = free_port()
    env["PORT"] = str(port)
    assert make().variables["QSTASH_URL"] == f"http://127.0.0.1:{port + 1}"
    del env["QSTASH_URL"]
    with socket.create_server(("127.0.0.1", port + 1)):
        found = int(make().variables["QSTASH_URL"].rpartition(":")[2])
    assert found not in {port, port + 1}


@pytest.mark.parametrize("port", ["0", "80", "65535"])
def test_beside_a_port_that_has_none_the_emulator_has_its_usual_one(
    env: dict[str, str], port: str
) -> None:
    env["PORT"] = port
    url = make().variables["QSTASH_URL"]
    assert int(url.rpartition(":")[2]) >= 1024


@pytest.mark.parametrize(
    ("variables", "toml", "ignored"),
    [
        ({}, "", ""),
        ({"REDIS_URL": ""}, "", ""),
        ({"REDIS_URL": PRODUCTION}, "", "REDIS_URL"),
        ({"redis_url": PRODUCTION}, "", "REDIS_URL"),
        ({"REDIS_URL_FILE": "missing"}, "", "REDIS_URL_FILE"),
        ({}, f'redis_url = "{PRODUCTION}"', "redis_url in hookmill.toml"),
        ({}, f'REDIS_URL = "{PRODUCTION}"', "REDIS_URL in hookmill.toml"),
        ({}, 'redis_url_file = "missing"', "redis_url_file in hookmill.toml"),
        (
            {"REDIS_URL": "no URL"},
            f'redis_url = "{PRODUCTION}"',
            "REDIS_URL and redis_url in hookmill.toml",
        ),
    ],
)
def test_no_redis_that_is_set_is_used_without_being_asked_for(
    env: dict[str, str], tmp_path: Path, variables: dict[str, str], toml: str, ignored: str
) -> None:
    (tmp_path / "hookmill.toml").write_text(toml)
    env |= variables
    assert environment.set_defaults(on_redis_url=False) == ignored
    environment.use_server("unix:///private/valkey.sock")
    settings = load_settings()
    assert (settings.redis_url, settings.redis_url_file) == ("unix:///private/valkey.sock", None)


@pytest.mark.parametrize(
    ("variables", "toml", "prefix"),
    [
        ({}, "", "dev-ada"),
        ({"HOOKMILL_PREFIX": "production"}, "", "dev-ada"),
        ({"hookmill_prefix": "production"}, "", "dev-ada"),
        ({}, 'prefix = "production"', "dev-ada"),
        ({"HOOKMILL_PREFIX": "dev-blog"}, 'prefix = "production"', "dev-blog"),
        ({"USER": "Ada L{}: ü"}, "", "dev-Ada_L_____"),
    ],
)
def test_on_a_redis_that_is_set_the_prefix_is_a_developers_own(
    env: dict[str, str], tmp_path: Path, variables: dict[str, str], toml: str, prefix: str
) -> None:
    (tmp_path / "hookmill.toml").write_text(toml)
    env |= {"REDIS_URL": PRODUCTION, **variables}
    assert environment.set_defaults(on_redis_url=True) == ""
    assert environment.use_own_prefix(load_settings()) == prefix
    settings = load_settings()
    assert (settings.redis_url, settings.prefix) == (PRODUCTION, prefix)


def test_without_a_redis_to_use_the_option_is_an_error() -> None:
    environment.set_defaults(on_redis_url=True)
    with pytest.raises(SettingsError, match="--on-redis-url: REDIS_URL is not set"):
        environment.use_own_prefix(load_settings())


@pytest.mark.parametrize("name", ["HOOKMILL_SPOOL", "hookmill_spool", ""])
def test_a_spool_that_is_set_is_not_drained_because_it_could_be_that_of_production(
    env: dict[str, str], tmp_path: Path, name: str
) -> None:
    if name:
        env[name] = "/var/lib/hookmill/spool"
    else:
        (tmp_path / "hookmill.toml").write_text('spool = "/var/lib/hookmill/spool"')
    environment.use_own_spool(load_settings())
    assert load_settings().spool == Path(".hookmill/dev.spool")


def test_without_a_spool_none_is_made() -> None:
    environment.use_own_spool(load_settings())
    assert load_settings().spool is None


def test_a_user_without_a_name_has_a_number(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", unknown)
    env["REDIS_URL"] = PRODUCTION
    assert environment.use_own_prefix(load_settings()) == f"dev-{os.getuid()}"
