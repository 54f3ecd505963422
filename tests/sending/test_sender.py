"""`Sender` over real sockets: settings, requests, URL groups, queues, and closing."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import hookmill
from hookmill import (
    Outgoing,
    Published,
    Sender,
)
from hookmill.config.dev_files import DEV, QSTASH, kept
from hookmill.errors import SettingsError
from tests.ports import free_port
from tests.scripted import (
    Scripted,
    says,
    silent,
)
from tests.sending.helpers import (
    POST,
    SECRET,
    THRICE,
    TOKEN,
    URL,
    Open,
    failed,
)
from tests.support import eventually


async def test_an_event_is_published_once_with_the_token_and_its_own_id(
    sender_to: Open,
) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        first = await sender.send(URL, POST)
        second = await sender.send(URL, POST)

    one, other = server.calls
    assert (one.method, one.target) == ("POST", f"/v2/publish/{URL}")
    assert one.headers["Authorization"] == f"Bearer {TOKEN}"
    assert one.headers["Content-Type"] == "application/json"
    assert first == Published("msg_0", False, one.headers["Upstash-Deduplication-Id"], URL)
    # Two that are equal are two: nothing of an ID follows from the content.
    assert second == Published("msg_1", False, other.headers["Upstash-Deduplication-Id"], URL)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example/a/../b/./c//d?x=%2F&y=a+b&&z#frag?ment",
        "http://u:p@app.example:8080?b=1&a=%20",
        "https://app.example#f",
        "https://[2001:db8::1]:443/%7Euser;p=1,2/'()*!$",
    ],
)
async def test_a_url_is_in_the_request_exactly_as_it_was_written(sender_to: Open, url: str) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        await sender.send(url, POST)
        await sender.enqueue("q", url, POST)

    assert [call.target for call in server.calls] == [f"/v2/publish/{url}", f"/v2/enqueue/q/{url}"]


@hypothesis_settings(max_examples=30)
@given(st.text(alphabet=[chr(c) for c in range(0x21, 0x7F) if chr(c) != "\\"], max_size=30))
def test_any_printable_path_is_kept_unchanged(path: str) -> None:
    url = f"https://app.example/{path}"

    async def sent() -> str:
        async with Scripted() as server, Sender(token=TOKEN, url=server.base) as sender:
            await sender.send(url, POST)
        return server.only.target

    assert asyncio.run(sent()) == f"/v2/publish/{url}"


async def test_the_apis_url_may_have_a_path(sender_to: Open) -> None:
    async with Scripted() as server:
        await sender_to(f"{server.base}/qstash/").send(URL, POST)

    assert server.only.target == f"/qstash/v2/publish/{URL}"


async def test_token_and_url_come_from_the_settings_unless_they_are_given(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("token_of_a_file\n")
    monkeypatch.setenv("QSTASH_TOKEN_FILE", "token")
    async with Scripted() as server, Scripted() as other:
        monkeypatch.setenv("QSTASH_URL", server.base)
        await sender_to(server, url=None, token=None).send(URL, POST)
        await sender_to(other, token=None).send(URL, POST)
        await sender_to(server, url=None).send(URL, POST)

    assert [call.headers["Authorization"] for call in server.calls] == [
        "Bearer token_of_a_file",
        f"Bearer {TOKEN}",
    ]
    assert other.only.headers["Authorization"] == "Bearer token_of_a_file"


@pytest.mark.parametrize("name", [DEV, QSTASH])
async def test_without_a_token_it_uses_the_emulator_that_runs_in_this_folder(
    sender_to: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Scripted() as server, Scripted() as other:
        with kept(name, {"QSTASH_URL": server.base, "QSTASH_TOKEN": "of-the-emulator"}):
            await sender_to(server, token=None, url=None).send(URL, POST)
            await sender_to(f"{server.base}/", token=None).send(URL, POST)
            with pytest.raises(SettingsError, match="QSTASH_TOKEN is not set"):
                sender_to(other, token=None)
            monkeypatch.setenv("QSTASH_URL", other.base)
            with pytest.raises(SettingsError, match="QSTASH_TOKEN is not set"):
                Sender()
            monkeypatch.setenv("QSTASH_TOKEN", "ours")
            await sender_to(other, token=None, url=None).send(URL, POST)
    headers = [call.headers["Authorization"] for call in (*server.calls, *other.calls)]
    assert headers == ["Bearer of-the-emulator", "Bearer of-the-emulator", "Bearer ours"]
    monkeypatch.delenv("QSTASH_TOKEN")
    with pytest.raises(SettingsError, match="QSTASH_TOKEN is not set"):
        Sender()


def test_a_sender_without_a_token_raises_an_error_that_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="QSTASH_TOKEN is not set"):
        Sender()
    with pytest.raises(SettingsError, match="QSTASH_TOKEN: a token is one word") as caught:
        Sender(token="one\r\nX: two", url="http://127.0.0.1")
    assert "two" not in str(caught.value)
    with pytest.raises(SettingsError, match="url: give the base URL of QStash"):
        Sender(token=TOKEN, url="qstash.example")
    with pytest.raises(SettingsError, match="scheme: 'nobody' is unknown; use one of standard-"):
        Sender(token=TOKEN, url="http://127.0.0.1", secret=SECRET, scheme="nobody")
    with pytest.raises(SettingsError, match="a signing secret is not base64") as caught:
        Sender(direct=True, secret="!not base64!", scheme="standard-webhooks")
    assert "!not" not in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    sender = Sender(token=TOKEN, url="http://127.0.0.1:1", secret=SECRET, scheme="marble")
    outgoing = Outgoing(
        URL, POST, secret=SECRET, scheme="gitlab-token", headers={"Authorization": SECRET}
    )
    prepared = sender._prepare(outgoing)
    held = [
        *(sender, outgoing, prepared, prepared.delivery(0), prepared.publish_request(0)),
        *(*vars(sender).values(), *vars(sender.schedules).values()),
        *(one for part in (sender._client, sender._transport) for one in vars(part).values()),
    ]
    assert not [one for one in held if TOKEN in repr(one) or SECRET in repr(one)]


async def test_a_url_group_gets_a_message_for_each_endpoint(sender_to: Open) -> None:
    said = [
        {"messageId": "msg_a", "url": "https://a.example"},
        {"messageId": "msg_b", "url": "https://b.example", "deduplicated": True},
    ]
    async with Scripted(
        [says(200, json.dumps(said)), says(200, json.dumps({"messages": said}))]
    ) as server:
        sender = sender_to(server)
        found = await sender.send_to_group("my-group", POST, deduplication_id="1", delay=5)
        assert await sender.send_to_group("my-group", POST, deduplication_id="1") == found

    assert server.calls[0].target == "/v2/publish/my-group"
    assert server.calls[0].headers["Upstash-Delay"] == "5s"
    assert found == [
        Published("msg_a", False, "1", "https://a.example"),
        Published("msg_b", True, "1", "https://b.example"),
    ]


async def test_enqueue_puts_a_message_into_the_queue(sender_to: Open) -> None:
    async with Scripted() as server:
        found = await sender_to(server).enqueue("my.queue", URL, POST, retries=0)

    assert server.only.target == f"/v2/enqueue/my.queue/{URL}"
    assert server.only.headers["Upstash-Retries"] == "0"
    assert found.message_id == "msg_0"


async def test_a_closed_sender_raises_an_error_and_leaves_no_connection(sender_to: Open) -> None:
    async with Scripted() as server:
        async with Sender(token=TOKEN, url=server.base) as sender:
            await sender.send(URL, POST)
        error = await failed(sender.send(URL, POST))
        await sender.close()
    assert "the sender is closed" in str(error)
    assert not error.may_be_published
    del sender
    gc.collect()  # aiohttp warns of what is left open, and a warning fails the test


async def test_closing_during_a_sending_still_says_that_it_may_be_published(
    sender_to: Open,
) -> None:
    async with Scripted([silent]) as server:
        sender = sender_to(server)
        sending = asyncio.create_task(sender.send(URL, POST))
        await eventually(lambda: server.calls, what="the request")
        await sender.close()
        error = await failed(sending)

    assert "the sender is closed" in str(error)
    assert error.may_be_published
    assert list(server.published) == [error.deduplication_id]


def test_a_sender_of_another_event_loop_raises_an_error() -> None:
    sender = Sender(token=TOKEN, url=f"http://127.0.0.1:{free_port()}", retry_policy=THRICE)
    asyncio.run(failed(sender.send(URL, POST)))
    error = asyncio.run(failed(sender.send(URL, POST)))
    assert "the sender was opened in another event loop" in str(error)
    assert not error.may_be_published
    asyncio.run(sender.close())


async def test_a_large_body_goes_out_whole(sender_to: Open) -> None:
    body = b"0123456789" * 300_000
    async with Scripted() as server:
        await sender_to(server).send(URL, body)
    assert server.only.body == body


def test_code_that_does_not_send_does_not_load_the_sender() -> None:
    asked = "import sys, hookmill; hookmill.Handlers; print(*sys.modules); hookmill.Sender"
    answer = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert "hookmill.handlers" in loaded
    assert not [name for name in loaded if name.startswith(("hookmill.send", "aiohttp", "email"))]
    assert all(getattr(hookmill, name) for name in hookmill.__all__)
