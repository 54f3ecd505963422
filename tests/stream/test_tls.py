"""Connections with TLS, against a server that asks for certificates."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from hookmill.errors import SettingsError
from hookmill.stream.client import Client
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.reply_errors import AccessRefusedError
from tests.authority import Issuer
from tests.support import Server, Stream, message
from tests.tls_server import NAME, TLSServer


@pytest.fixture
def tls(own_server: Callable[..., Server], tmp_path: Path) -> TLSServer:
    return TLSServer(own_server, tmp_path)


async def refusal_of(url: str) -> str:
    """Return the error of two attempts: the second one does not connect, but has the same error."""
    async with Client(url, "t") as client:
        texts = []
        for _ in range(2):
            with pytest.raises(AccessRefusedError) as refused:
                await client.execute(0, "PING")
            texts.append(str(refused.value))
    assert texts[0] == texts[1]
    return texts[0]


async def test_every_kind_of_connection_works_with_certificates(tls: TLSServer) -> None:
    stream = Stream(tls.url(), "t")
    assert await stream.append([message()])
    assert await stream.append([message(body=b"x" * 3_000_000)])  # it gets a longer timeout
    waiting = stream.client.blocking(0)
    assert await waiting.ask(("BZPOPMIN", "t:none", "0.01"), 0.01, can_be_ended=True) is None
    leases = BlockingLeases(stream.client, "g", "c")
    assert leases.renew([]) == []
    leases.close()
    await waiting.close()
    await stream.close()


async def test_all_connections_have_one_context(tls: TLSServer) -> None:
    async with Client(tls.url(), "t") as client:
        (server,) = client.servers
        contexts = {id(server._make().ssl_context) for _ in range(3)}
        assert len(contexts) == 1


async def test_a_client_without_a_certificate_is_told_so(tls: TLSServer) -> None:
    for _ in range(5):  # the alert and the end of the connection come at the same time
        said = await refusal_of(tls.url(ssl_certfile="", ssl_keyfile=""))
        assert f"{NAME}:{tls.port} refuses this program's certificate (ssl_certfile): " in said
        assert "certificate required" in said


async def test_a_certificate_of_another_authority_is_refused(tls: TLSServer) -> None:
    tls.certificate("other", "w", authority=Issuer("other", time.time()), is_client=True)
    files = {"ssl_certfile": "other.pem", "ssl_keyfile": "other.key"}
    said = await refusal_of(tls.url(**{k: str(tls.folder / v) for k, v in files.items()}))
    assert "refuses this program's certificate (ssl_certfile): " in said
    assert "unknown ca" in said


async def test_a_certificate_that_has_expired_is_refused(tls: TLSServer) -> None:
    tls.certificate("old", "w", is_client=True, has_expired=True)
    files = {"ssl_certfile": "old.pem", "ssl_keyfile": "old.key"}
    said = await refusal_of(tls.url(**{k: str(tls.folder / v) for k, v in files.items()}))
    assert "refuses this program's certificate (ssl_certfile): " in said
    assert "certificate expired" in said


async def test_a_server_of_an_unknown_authority_is_refused(tls: TLSServer) -> None:
    other = tls.file("other-ca.pem", Issuer("other", time.time()).pem)
    for ca in ("", other):
        said = await refusal_of(tls.url(ssl_ca_certs=ca))
        assert f"{NAME}:{tls.port} cannot be used with TLS: " in said
        assert "certificate verify failed" in said


async def test_a_server_with_another_name_or_an_expired_certificate_is_refused(
    tls: TLSServer,
) -> None:
    assert "not valid for '127.0.0.1'" in await refusal_of(tls.url(host="127.0.0.1"))
    tls.certificate("server", NAME, has_expired=True)
    with redis.Redis.from_url(tls.plain.url) as client:
        client.config_set("tls-cert-file", str(tls.folder / "server.pem"))
    assert "certificate has expired" in await refusal_of(tls.url())


@pytest.mark.parametrize("option", ["ssl_certfile", "ssl_keyfile", "ssl_ca_certs"])
async def test_a_file_that_is_not_there_or_holds_something_else_is_named(
    tls: TLSServer, option: str
) -> None:
    missing = str(tls.folder / "missing.pem")
    said = await refusal_of(tls.url(**{option: missing}))
    assert f"{NAME}:{tls.port} cannot be used with TLS: {missing}: No such file" in said
    garbage = tls.file("garbage.pem", b"garbage")
    assert f"{option}={garbage}" in await refusal_of(tls.url(**{option: garbage}))


@pytest.mark.parametrize(
    "option", [{"ssl_cert_reqs": "bogus"}, {"ssl_min_version": "x"}, {"ssl_nothing": "1"}]
)
async def test_an_option_that_cannot_be_used_is_a_fault_of_the_settings(
    tls: TLSServer, option: dict[str, str]
) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL: "):
        Client(tls.url(**option), "t")


async def test_files_that_were_renewed_are_used_for_the_next_connection(tls: TLSServer) -> None:
    async with Client(tls.url(), "t") as client:
        await client.execute(0, "PING")
        tls.certificate("client", "w", is_client=True, has_expired=True)
        await client.servers[0].drop()
        with pytest.raises(AccessRefusedError, match="certificate expired"):
            await client.execute(0, "PING")
        tls.certificate("client", "w", is_client=True)
        client.servers[0]._refused_until = 0.0  # the pause is over
        assert await client.execute(0, "PING") == b"PONG"


async def test_the_password_is_not_in_an_error(tls: TLSServer) -> None:
    url = tls.url(login="someone:the-secret@", ssl_ca_certs="")
    assert not re.search("the-secret", await refusal_of(url))
