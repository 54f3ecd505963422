"""The command line as an operator meets it: what it offers, and how it fails."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from hookmill.message import Death, Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import FollowUp, Settlement
from tests.support import CURRENT_KEY, Server, Stream, free_port, message

NO_REDIS_URL = "REDIS_URL is not set: give the Redis that receivers and workers share"
NO_REDIS = {"REDIS_URL": "redis://127.0.0.1:1"}


Answer = subprocess.CompletedProcess[str]


def hookmill(
    *command: str, env: dict[str, str] | None = None, folder: Path | None = None
) -> Answer:
    """Run `hookmill COMMAND` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "hookmill", *command],
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **(env or {})},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def faults(*said: str) -> str:
    return "".join(f"hookmill: {fault}\n" for fault in said)


def test_the_help_names_the_commands() -> None:
    whole, dead, none = hookmill("--help"), hookmill("dead", "--help"), hookmill()

    assert whole.returncode == dead.returncode == 0
    assert none.returncode == 2
    for command in (
        *("receiver", "worker", "dev", "send", "verify", "dead", "status", "check"),
        "schema",
    ):
        assert f" {command} " in whole.stdout, command
    for command in ("list", "show", "replay", "drop"):
        assert f" {command} " in dead.stdout, command
    assert "Usage: " in none.stdout + none.stderr


def test_every_fault_of_the_settings_is_one_line_and_ends_in_2() -> None:
    env = {"PORT": "eighty", "HOOKMILL_LEASE": "0", "MARBLE_WEBHOOK_SECRET": ""}
    answer = hookmill("receiver", env=env)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == faults(
        "MARBLE_WEBHOOK_SECRET is empty: anyone could sign with it",
        "PORT: Input should be a valid integer, unable to parse string as an integer "
        "(got 'eighty')",
        "HOOKMILL_LEASE: Input should be greater than or equal to 0.5 (got '0')",
    )


@pytest.mark.parametrize(
    ("command", "env", "said"),
    [
        (
            ["worker", "app:handlers"],
            {},
            NO_REDIS_URL,
        ),
        (
            ["worker"],
            NO_REDIS,
            "no handlers: give MODULE:ATTRIBUTE, or set HOOKMILL_HANDLERS (app.main:handlers)",
        ),
        (
            ["worker", "app"],
            NO_REDIS,
            "'app': name the handlers as MODULE:ATTRIBUTE, app.main:handlers",
        ),
        (
            ["worker", "app:handlers", "--concurrency", "0"],
            NO_REDIS,
            "--concurrency: Input should be greater than or equal to 1 (got 0)",
        ),
        (
            ["receiver"],
            NO_REDIS,
            "there is no source: set QSTASH_CURRENT_SIGNING_KEY or MARBLE_WEBHOOK_SECRET",
        ),
        (
            ["receiver"],
            {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY},
            NO_REDIS_URL,
        ),
        (
            ["dead", "list"],
            {},
            NO_REDIS_URL,
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line_and_ends_in_2(
    command: list[str], env: dict[str, str], said: str
) -> None:
    answer = hookmill(*command, env=env)

    assert (answer.returncode, answer.stderr) == (2, faults(said))


@pytest.mark.parametrize(
    "command",
    [["dead", "replay"], ["dead", "replay", "1-1", "--all"], ["dead", "drop"], ["plough"]],
)
def test_a_command_that_is_no_command_ends_in_2_with_the_usage(command: list[str]) -> None:
    answer = hookmill(*command, env=NO_REDIS)

    assert answer.returncode == 2
    assert "Usage: " in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_redis_that_is_away_ends_in_1_without_a_traceback_or_the_password() -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}"
    answer = hookmill("dead", "list", env={"REDIS_URL": url})

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("hookmill: Error 111 connecting to 127.0.0.1:")
    assert answer.stderr.count("\n") == 1
    assert "hunter2" not in answer.stderr


async def test_the_dead_letters_are_listed_shown_replayed_and_dropped(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()  # what each server does with them is test_graveyard's matter
    stream = Stream(server.url, "cli")
    group = Consumer(stream.client, "orders", "c1", dedup_window=60)
    await group.open()
    death = Death(reason="failed", error="ValueError: no such order", died_ms=1).to_fields()
    await stream.append([message(b'{"a": 1}', id=f"msg_{number}") for number in range(3)])
    for entry in (await group.take(10)).entries:
        fields = {**entry.fields, **Progress(owner=entry.ref.id).to_fields(), **death}
        await group.settle([Settlement(entry.ref, (FollowUp("dead", "token", fields),))])

    async def dead(*command: str, status: int = 0) -> str:
        given = ("dead", *command, "--group", "orders")
        env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": "cli"}
        answer = await asyncio.to_thread(hookmill, *given, env=env)
        assert answer.returncode == status, answer
        return answer.stdout or answer.stderr

    listed, for_programs = await asyncio.gather(dead("list"), dead("list", "--json"))
    letters = [json.loads(line) for line in for_programs.splitlines()]
    assert [letter["message_id"] for letter in letters] == ["msg_0", "msg_1", "msg_2"]
    first, second, third = (letter["id"] for letter in letters)
    assert [line.split()[0] for line in listed.splitlines()] == [first, second, third]

    shown, shown_json = await asyncio.gather(dead("show", first), dead("show", first, "--json"))
    assert 'body: {"a": 1}' in shown
    assert json.loads(shown_json)["body"] == '{"a": 1}'

    assert await dead("drop", second) == "dropped 1 of 1\n"
    assert await dead("replay", first) == "replayed 1 of 1\n"
    assert await dead("replay", "--all") == "replayed 1 of 1\n"
    unknown = await dead("show", third, status=1)
    assert unknown == f"hookmill: no dead letter {third} in group orders\n"
    again = (await group.take(10)).entries
    assert [entry.fields[b"id"] for entry in again] == [b"msg_0", b"msg_2"]

    await group.close()
    await stream.close()


async def bury(server: Server, *types: str) -> None:
    """Have a message of each type given up, in the group `main`."""
    stream = Stream(server.url, "hookmill")
    group = Consumer(stream.client, "main", "c1", dedup_window=60)
    await group.open()
    await stream.append([message(type=one) for one in types])
    death = Death(reason="failed", error="", died_ms=1).to_fields()
    for entry in (await group.take(10)).entries:
        fields = {**entry.fields, **Progress(owner=entry.ref.id).to_fields(), **death}
        await group.settle([Settlement(entry.ref, (FollowUp("dead", "token", fields),))])
    await group.close()
    await stream.close()


async def test_dead_letters_are_chosen_by_filters_and_dropping_them_wants_a_yes(
    own_server: Callable[..., Server],
) -> None:
    server = own_server()
    await bury(server, "post.published", "post.deleted", "order.paid", "order.paid")

    async def dead(*command: str) -> tuple[int, str, str]:
        env = {"REDIS_URL": server.url}
        answer = await asyncio.to_thread(hookmill, "dead", *command, env=env)
        return answer.returncode, answer.stdout, answer.stderr

    listed, unasked, dry, none = await asyncio.gather(
        dead("list", "--type", "post.*", "--limit", "1"),
        dead("drop", "--type", "post.*"),
        dead("replay", "--type", "order.*", "--dry-run", "--rate", "5"),
        dead("list", "--before", "2h"),
    )
    assert [listed[1].count("\n"), " post.published " in listed[1]] == [1, True]
    assert unasked == (1, "", faults(
        "drop 2 dead letters of group main for good? There is nobody to ask: give --yes"
    ))  # fmt: skip
    assert dry == (0, "would replay 2\n", "")
    assert none == (0, "no dead letters\n", "")

    assert await dead("drop", "--type", "post.*", "--yes") == (0, "dropped 2 of 2\n", "")
    assert await dead("replay", "--all", "--rate", "100", "--limit", "1") == (
        0,
        "replayed 1 of 1\n",
        "",
    )
    assert (await dead("list", "--after", "1h"))[1].count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "said", "left"), [("y", "dropped 2 of 2", 0), ("n", "dropped none", 2)]
)
async def test_on_a_terminal_a_person_is_asked_with_the_number_before_all_are_dropped(
    own_server: Callable[..., Server], answer: str, said: str, left: int
) -> None:
    server = own_server()
    await bury(server, "a", "b")

    shown = await asyncio.to_thread(
        at_a_terminal, ["dead", "drop", "--all"], {"REDIS_URL": server.url}, f"{answer}\n"
    )

    assert "drop 2 dead letters of group main for good? [y/N]" in shown
    assert said in shown
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen("hookmill:{0}:main:dead") == left


def at_a_terminal(command: list[str], env: dict[str, str], typed: str) -> str:
    """Run `hookmill COMMAND` at a terminal of its own, type, and return what is shown."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "hookmill", *command],
        env={"PATH": os.environ["PATH"], **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    with suppress(OSError):  # how a terminal says that its last program has ended
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    running.wait()
    return shown.decode()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["dead", "replay", "--all", "--type", "a"], "give IDs, or filters, or --all"),
        (["dead", "drop", "1-1", "--source", "a"], "give IDs, or filters, or --all"),
        (["dead", "drop", "1-1", "--limit", "5"], "give IDs, or filters, or --all"),
        (["dead", "replay", "--limit", "5"], "give IDs, or filters, or --all"),
        (["dead", "list", "--after", "yesterday"], "--after yesterday: give a time such as"),
        (["dead", "list", "--limit", "0"], "--limit"),
        (["dead", "replay", "--all", "--rate", "0"], "--rate"),
        (["status", "--watch", "0"], "--watch"),
        (["check", "--rate", "-1"], "--rate"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(command: list[str], said: str) -> None:
    answer = hookmill(*command, env=NO_REDIS)

    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


async def test_check_and_status_look_at_the_server(own_server: Callable[..., Server]) -> None:
    server = own_server()
    await bury(server, "a")
    env = {"REDIS_URL": server.url}

    checked, status, as_json = await asyncio.gather(
        asyncio.to_thread(hookmill, "check", "--rate", "10", env=env),
        asyncio.to_thread(hookmill, "status", env=env),
        asyncio.to_thread(hookmill, "status", "--json", env=env),
    )

    assert (checked.returncode, checked.stderr) == (2, "")
    assert checked.stdout.startswith("error: appendonly is off\n  a restart of Redis loses ")
    assert "note: 1 dead letter lies in group main\n" in checked.stdout
    assert (status.returncode, status.stdout.splitlines()[2].split()[6]) == (0, "1")
    assert json.loads(as_json.stdout)["groups"][0]["dead"] == 1


def test_check_and_status_of_a_redis_that_is_away() -> None:
    checked, status = hookmill("check", env=NO_REDIS), hookmill("status", env=NO_REDIS)

    assert (checked.returncode, status.returncode) == (2, 1)
    assert checked.stdout.startswith("error: Redis cannot be used: Error 111 ")
    assert status.stderr.startswith("hookmill: Error 111 ")
    assert hookmill("check").stderr == faults(NO_REDIS_URL)


def test_a_group_that_could_not_be_a_key_is_a_fault_of_its_option() -> None:
    answer = hookmill("dead", "list", "--group", "a:b", env=NO_REDIS)

    assert answer.returncode == 2
    assert answer.stderr.startswith("hookmill: --group: use ASCII letters, digits, - _ and .")


def test_a_body_to_send_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    answer = hookmill("send", "--body-file", "missing.json", folder=tmp_path)

    assert (answer.returncode, answer.stderr) == (
        1,
        "hookmill: missing.json: No such file or directory\n",
    )


SIGNED = "X-Hub-Signature-256: sha256=" + hmac.digest(b"the-secret", b"{}", "sha256").hex()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [(b"{}", 0, "github: valid\n"), (b"{}\n", 1, "github: refused (signature_mismatch): ")],
)
@pytest.mark.parametrize("given", ["--secret", "--secret-file", "--secret-env"])
def test_a_captured_delivery_is_judged_with_a_secret_from_anywhere(
    tmp_path: Path, body: bytes, status: int, said: str, given: str
) -> None:
    (tmp_path / "body").write_bytes(body)
    (tmp_path / "secret").write_text("the-secret\n")
    value = {"--secret": "the-secret", "--secret-file": "secret", "--secret-env": "THE"}[given]
    answer = hookmill(
        *("verify", "--source", "github", given, value, "--header", SIGNED),
        *("--header", "X-GitHub-Event: ping", "--body-file", "body"),
        env={"THE": "the-secret"},
        folder=tmp_path,
    )
    assert (answer.returncode, answer.stderr) == (status, "")
    assert answer.stdout.startswith(said)
    assert "the-secret" not in answer.stdout
    assert ("it would match if the body had no newline at its end" in answer.stdout) is bool(status)


@pytest.mark.parametrize("program", ["receiver", "worker"])
def test_a_program_does_not_load_what_only_draws_on_terminals(program: str) -> None:
    code = (
        "import sys; from hookmill.cli.main import _settings;"
        "from hookmill.runtime.loading import load_program;"
        f"_settings(None); load_program({program!r});"
        "print('structlog' in sys.modules, 'rich' in sys.modules); import rich"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": os.environ["PATH"]}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "True False\n"


def test_a_verdict_for_programs_is_json_and_the_body_may_come_from_standard_input() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hookmill", "verify", "--source", "stripe", "--json"),
            *("--secret", "the-secret", "--now", "1000", "--body-file", "-"),
            *("--header", "Stripe-Signature: t=900,v1="
              + hmac.digest(b"the-secret", b"900.\r\n\x00", "sha256").hex()),
        ],
        env={"PATH": os.environ["PATH"]},
        input=b"\r\n\x00",
        capture_output=True,
        check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"], report["source"]) == (0, "valid", "stripe")
    assert "100 s old" in report["steps"][1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--source", "nope"], "there is no source 'nope'"),
        (["--source", "github", "--header", "hunter2"], "--header (number 1): write 'Name: value'"),
        (["--source", "github", "--body-file", "missing"], "missing: No such file"),
        (["--source", "github", "--secret-env", "hunter2"], "there is no such variable"),
        (["--source", "github", "--now", "nan"], "--now: give a Unix time"),
        (["--source", "github", "--url", "x"], "x: give an http or https URL"),
        ([], "--source"),
    ],
)
def test_a_delivery_that_cannot_be_judged_ends_in_2(
    tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "body").touch()
    given = ["verify", "--secret", "s", "--body-file", "body", *options]
    answer = hookmill(*given, folder=tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "hunter2" not in answer.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [("nope", "there is no source 'nope'; there are qstash, "), ("discord", "only the sender has")],
)
def test_what_cannot_be_sent_is_said_and_ends_in_2(source: str, said: str) -> None:
    answer = hookmill("send", "--source", source)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert said in answer.stderr


def test_check_reports_faults_of_tables_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "hookmill.toml").write_text('[sources.x]\npreset = "y"\n')
    plain, as_json = (
        hookmill("check", folder=tmp_path),
        hookmill("check", "--json", folder=tmp_path),
    )
    assert (plain.returncode, as_json.returncode) == (2, 2)
    fault = "sources.x.preset: there is no sender y; see docs/sources.md"
    assert plain.stdout.startswith(f"error: {fault}\n")
    assert [json.loads(line)["what"] for line in as_json.stdout.splitlines()] == [fault]


def test_a_pipe_that_closes_early_is_no_error_worth_a_traceback(
    own_server: Callable[..., Server],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    answer = subprocess.run(
        [sys.executable, "-m", "hookmill", "dead", "list"],
        env={"PATH": os.environ["PATH"], "REDIS_URL": own_server().url},
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)

    assert b"Traceback" not in answer.stderr


SHOP = """
import hookmill
print("what a module prints is not the document's")

class OrderPaid(hookmill.Event, tag="order.paid", aliases=("order.payed",)):
    order_id: str

handlers = hookmill.Handlers()

@handlers.on(OrderPaid)
async def send_receipt(delivery): ...
"""


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (["shop:handlers"], {}),
        (["shop"], {}),
        ([], {"HOOKMILL_HANDLERS": "shop:handlers"}),
        # Nothing but the target is needed: not even sound settings.
        (["shop:handlers"], {"PORT": "eighty"}),
    ],
)
def test_the_schema_of_ones_own_events_is_all_that_stdout_holds(
    command: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)

    answer = hookmill("schema", *command, env=env, folder=tmp_path)

    assert (answer.returncode, answer.stderr) == (0, "what a module prints is not the document's\n")
    assert list(json.loads(answer.stdout)["$defs"]) == ["order.paid", "order.payed"]


def test_the_schema_of_a_catalogue_comes_as_an_asyncapi_document_too() -> None:
    answer = hookmill("schema", "--asyncapi", "hookmill.catalog.marble", env={"LC_ALL": "C"})

    assert (answer.returncode, answer.stderr) == (0, "")
    document = json.loads(answer.stdout)
    assert (document["asyncapi"], document["info"]["title"]) == ("3.0.0", "hookmill.catalog.marble")
    assert len(document["operations"]) == len(document["components"]["messages"]) == 16


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            [],
            "no events: give MODULE:ATTRIBUTE of the handlers, or a module such as hookmill.",
        ),
        (["no.such"], "'no.such': there is no module 'no' in {folder}"),
        (["no.such:handlers"], "'no.such:handlers': there is no module 'no' in {folder}"),
        (["shop."], "'shop.': name MODULE:ATTRIBUTE, or a module such as app.events"),
        (["plain"], "'plain' declares no event: name a module with classes such as class"),
        (["plain:handlers"], "'plain:handlers': no handler is for an event class; there is no"),
        (["twice:handlers"], "two classes are called 'order.paid' on the wire, shop.OrderPaid and"),
        (["ending"], "'ending' cannot be imported: SystemExit"),
        (["broken"], "'broken' cannot be imported: ModuleNotFoundError"),
        (["broken:handlers"], "'broken:handlers' cannot be imported: ModuleNotFoundError"),
        (["badly_named"], "Bad: tag: '' cannot be a name on the wire: give printable text without"),
    ],
)
def test_what_has_no_schema_is_said_on_stderr_and_ends_in_2(
    command: list[str], said: str, tmp_path: Path
) -> None:
    files = {
        "shop": SHOP,
        "plain": "from hookmill import Handlers\nhandlers = Handlers()\n"
        "handlers.on('*', name='all')(lambda delivery: None)",
        "twice": "import shop\nfrom shop import *\n"
        "class Mine(hookmill.Event, tag='order.paid'): ...\n"
        "handlers.on(Mine, name='mine')(shop.send_receipt)",
        "ending": "raise SystemExit(0)",
        "broken": "import no_such_module",
        "badly_named": "from hookmill import Event\nclass Bad(Event, tag=''): ...",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)

    answer = hookmill("schema", *command, folder=tmp_path)

    assert (answer.returncode, answer.stdout) == (2, "")
    last = answer.stderr.splitlines()[-1]
    assert last.startswith(f"hookmill: {said.format(folder=tmp_path)}")
    if "cannot be imported" in said:
        assert "Traceback (most recent call last):" in answer.stderr
