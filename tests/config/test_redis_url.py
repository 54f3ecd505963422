"""The URL of Redis: what cannot be used is a fault of the setting, and never a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from hookmill.config.redis_url import check_redis_url
from hookmill.config.settings import load_settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.credentials import UrlFileCredentials
from tests.config.support import SetEnv, faults
from tests.support import Program, Server

USAGE = (
    "REDIS_URL: give redis://HOST:PORT/NUMBER, rediss:// for TLS, unix://PATH, for a Redis Cluster "
    "redis+cluster://HOST:PORT,HOST:PORT, for sentinels redis+sentinel://HOST:PORT,HOST:PORT/NAME; "
    "special characters in a password are written as %XX"
)

NO_SERVER = [
    "localhost:6379",
    "localhost",
    "http://:hunter2@host",
    "redis://:hunter2@",
    "redis://:hunter2@host:port",
    "redis://:hunter2@host:99999",
    "redis://:hunter2@host:-1",
    "redis://:hunter2@host:0",
    "redis://:hunter2#2@host:6379",
    "redis://:hunter2@[host",
    "redis://:hunter2@a..host",
    f"redis://:hunter2@{'a' * 64}.example",
    "redis://:hunter2@host%00",
    "redis://:hunter2%ff@host",
    "redis://:hunter2\udcff@host",
    "redis://:hunter2\n@host",
    "unix://",
    "unix:///run/%00hunter2",
    "redis+nonsense://:hunter2@host",
    "unix+cluster:///run/hunter2",
    "redis+cluster://:hunter2@",
    "redis+cluster://:hunter2@a,,b",
    "redis+cluster://:hunter2@a:1,b:port",
    "redis+sentinel://:hunter2@a,b",
    "redis+sentinel://:hunter2@a,b/",
    "redis+sentinel://:hunter2@a,b:x/main",
]
WRONG_OPTION = [
    "redis://:hunter2@host?no_such_option=hunter2",
    "redis://:hunter2@host?retry=hunter2",
    "redis://:hunter2@host?credential_provider=hunter2",
    "redis://:hunter2@host?decode_responses=1",
    "redis://:hunter2@host?ssl_cert_reqs=none",
    "redis://:hunter2@host?socket_timeout=hunter2",
    "redis://:hunter2@host?socket_timeout=nan",
    "redis://:hunter2@host?db=hunter2",
    "rediss://:hunter2@host?ssl_cert_reqs=hunter2",
    "rediss://:hunter2@host?ssl_min_version=hunter2",
    "unix:///hunter2?socket_keepalive=1",
    "redis+cluster://:hunter2@a,b?ssl_cert_reqs=none",
    "redis+cluster://:hunter2@a,b/1",
    "redis+cluster://:hunter2@a,b?db=1",
]


@pytest.mark.parametrize("url", NO_SERVER)
def test_a_redis_url_that_names_no_server_is_a_fault_that_does_not_show_it(
    setenv: SetEnv, url: str
) -> None:
    setenv(REDIS_URL=url)

    assert faults() == [USAGE]


@pytest.mark.parametrize("url", WRONG_OPTION)
def test_an_option_that_the_client_could_not_use_is_a_fault_that_does_not_show_it(
    setenv: SetEnv, url: str
) -> None:
    setenv(REDIS_URL=url)

    (fault,) = faults()

    assert "its option " in fault or "unknown option" in fault or "no numbered databases" in fault
    assert "hunter2" not in fault


@pytest.mark.parametrize("url", [*NO_SERVER, *WRONG_OPTION])
def test_a_url_in_a_file_is_checked_in_the_same_way(setenv: SetEnv, folder: Path, url: str) -> None:
    (folder / "redis").write_text(url, "utf-8", "surrogateescape")
    setenv(REDIS_URL_FILE="redis")

    (fault,) = faults()

    assert fault.startswith("REDIS_URL_FILE: redis")
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%23ss@host:6379/2",
        "redis://:100%sure@host",
        "rediss://user:pass@host.example:6380/0?ssl_cert_reqs=required",
        "rediss://host?ssl_certfile=/run/c.pem&ssl_keyfile=/run/k.pem&ssl_check_hostname=False",
        "unix:///run/redis.sock?db=1",
        "redis://[::1]:6379",
        "redis://b%C3%BCcher.example?health_check_interval=30&client_name=us&protocol=3",
        "redis+cluster://u:p%2C@h1:7000,h2,[::1]:7002?socket_timeout=3",
        "rediss+cluster://h1?ssl_check_hostname=False",
        "redis+sentinel://u:p%2C@h1,h2:7000,[::1]/main/3?sentinel_username=s&sentinel_password=x",
    ],
)
def test_every_form_of_a_redis_url_is_taken(setenv: SetEnv, url: str) -> None:
    setenv(REDIS_URL=url)

    assert load_settings().redis_url == url
    Client(url, "t")  # it refuses options that it does not know


NAMES = st.sampled_from(
    [
        *redis.asyncio.connection.URL_QUERY_ARGUMENT_PARSERS,
        "client_name", "connection_class", "credential_provider", "encoding", "host", "password",
        "path", "port", "retry", "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs",
        "ssl_certfile", "ssl_ciphers", "ssl_keyfile", "ssl_password", "username",
    ]
) | st.text(max_size=8)  # fmt: skip
VALUES = st.sampled_from(
    ["0", "1", "-1", "3", "1e999", "nan", "none", "True", "a:b", "[VERIFY_X509_STRICT]"]
) | st.text(max_size=8)
PARTS = st.text(max_size=6) | st.text("%:@/?#[]0123456789abf", max_size=8)
QUERIES = st.lists(
    st.tuples(NAMES, VALUES).map(lambda pair: f"{quote(pair[0])}={quote(pair[1])}"), max_size=3
).map("&".join)
NEARBY = st.sampled_from(["127.0.0.1:1", "[::1]:1", "localhost:1"])
URLS = st.builds(
    "{}://{}{}/{}?{}".format,
    st.sampled_from(
        ["redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel"]
    ),
    PARTS.map(lambda part: f"u:{part}@") | st.just(""),
    NEARBY,
    PARTS,
    QUERIES,
)


@given(URLS)
def test_with_whatever_url_is_taken_a_program_connects_or_waits(url: str) -> None:
    try:
        check_redis_url(url)
    except ValueError:
        return

    async def ask() -> None:
        async with Client(url, "t", timeout=2.0) as client:
            await client.execute(0, "PING")

    with pytest.raises(StreamUnavailableError):
        asyncio.run(ask())


@given(st.text() | URLS | st.builds("redis://{}".format, PARTS))
def test_whatever_a_file_holds_when_it_is_read_again_is_a_refused_login(text: str) -> None:
    path = Path("reread")
    path.write_text(text, "utf-8", "surrogateescape" if text.isascii() else "ignore")
    words: tuple[object, ...] = ()
    with suppress(redis.AuthenticationError):
        words = UrlFileCredentials(path).get_credentials()
    assert all(isinstance(word, str) for word in words)


@pytest.mark.parametrize("command", ["receiver", "status", "check", "dead list", "qstash"])
def test_every_command_ends_with_2_and_names_the_setting(
    server: Server, start_program: Callable[..., Program], command: str
) -> None:
    program = start_program(
        *command.split(),
        env={
            "REDIS_URL": f"{server.url}?retry=x",
            "MARBLE_WEBHOOK_SECRET": "a secret of marble",
        },
    )
    assert program.wait(60) == 2
    assert "REDIS_URL: it has an unknown option behind the ?" in program.log
    assert "Traceback" not in program.log
