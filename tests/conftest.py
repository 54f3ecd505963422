"""Fixtures with real servers and programs, and the checks that a test leaves nothing behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from hookmill.config.settings import Settings
from hookmill.stream.attempts import NO_HISTORY, HistoryBounds
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests import limited
from tests.selection import file_of, is_before_7_0, is_once_only, is_second, mixed
from tests.support import Program, Server, Stream, server_binaries

TESTS = Path(__file__).parent
BINARIES = server_binaries()
if only := os.environ.get("HOOKMILL_TEST_ONLY"):  # `python -m tests.matrix` sets it
    BINARIES = {only: BINARIES[only]}

# A busy machine draws examples slowly, which says nothing about the code.
hypothesis_settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any-machine")

# A run under nohup ignores the first, one in the background of a script the second, and so would
# the programs that the tests start.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h


def pytest_report_header() -> str:
    return f"servers: {', '.join(f'{name} ({path})' for name, path in BINARIES.items())}"


def pytest_collection(session: pytest.Session) -> None:
    """Import some of the test files before all of them are collected, in each process others.
    Where their bytecode is not cached yet, preparing it takes longer than all else in a collection;
    so each process prepares a part, and finds the rest done by the others.
    """
    gc.disable()  # until all is collected: nothing of it is garbage
    config = session.config
    if config.args_source is not config.ArgsSource.TESTPATHS:
        return
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for path in sorted(TESTS.rglob("test_*.py"))[number::count]:
        name = ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
        with suppress(Exception, pytest.skip.Exception):  # the collection shows what is wrong
            importlib.import_module(name)


def pytest_collection_finish() -> None:
    """Leave what was collected out of all garbage collections: it stays to the end."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mix the files that wait with those that compute. Leave out what is to run on one server only
    and would run on a second one, and what is marked with `since_7_0` on an older one.
    """
    again = [
        item
        for item in items
        if (is_once_only(item) and is_second(item, BINARIES))
        or (item.get_closest_marker("since_7_0") and is_before_7_0(item))
    ]
    if again:
        config.hook.pytest_deselected(items=again)
    left_out = set(again)
    files = mixed(Counter(file_of(item) for item in items))
    place = {file: number for number, file in enumerate(files)}
    left = (item for item in items if item not in left_out)
    items[:] = sorted(left, key=lambda item: place[file_of(item)])


@pytest.fixture(scope="session", params=list(BINARIES))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A Redis-compatible server for the whole session. A test that uses it runs once on each
    server that this machine has, or on one of them if it is marked with `one_server`.
    """
    running = Server(BINARIES[request.param], tmp_path_factory.mktemp(request.param))
    running.start()
    yield running
    running.kill()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that belong to the test, which may kill and freeze them:
    `own_server(*options)`. A test that asks for a server which this machine lacks is skipped.
    """
    started: list[Server] = []

    def start(*options: str, binary: str = "valkey") -> Server:
        if binary not in BINARIES:
            pytest.skip(f"{binary}-server is not installed")
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        server = Server(BINARIES[binary], folder, *options)
        server.start()
        started.append(server)
        return server

    yield start
    refused = [one for server in started if limited.IS_ASKED_FOR for one in server.refused()]
    for server in started:
        server.kill()
    assert not refused


@pytest.fixture
def redis_client(server: Server) -> Iterator[redis.Redis]:
    """A plain client, to read what our code wrote."""
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def prefix(redis_client: redis.Redis) -> Iterator[str]:
    """A prefix that belongs to the test. At the end, no message under it may be pending, delayed,
    parked or dead. A test that leaves such a message on purpose deletes it with `redis_client`.
    """
    name = f"t{secrets.token_hex(4)}"
    yield name
    assert not limited.IS_ASKED_FOR or not limited.refused_and_forgotten(redis_client)
    try:
        assert_nothing_left(redis_client, name)
    finally:
        for key in redis_client.scan_iter(f"{name}:*", count=1000):
            redis_client.delete(key)
        elsewhere = list(redis_client.scan_iter(count=1000))
        redis_client.flushdb()
    assert not elsewhere, f"keys outside of the test's prefix: {elsewhere}"


def assert_nothing_left(client: redis.Redis, prefix: str) -> None:
    left = []
    for raw in client.scan_iter(f"{prefix}:*", count=1000):
        key = raw.decode()
        kind = client.type(key).decode()  # type: ignore[union-attr] # the client is synchronous
        if kind == "stream" and key.endswith((":stream", ":again")):
            left += [
                f"{key} has {group['pending']} pending in {group['name']}"
                for group in client.xinfo_groups(key)
                if group["pending"]
            ]
            if key.endswith(":again") and client.xlen(key):
                left.append(f"{key} has entries")
        elif (
            kind == "stream"
            and client.xlen(key)
            and not key.endswith((":sooner", ":index", ":audit"))
        ):
            left.append(f"{key} has dead letters")
        elif key.endswith((":delayed", ":entries")):
            left.append(f"{key} has delayed messages")
        elif key.endswith(":busy"):
            left.append(f"{key} has ordering keys in use")
        elif ":parked:" in key or ":paused:" in key:
            left.append(f"{key} has parked or paused messages")
        elif ":owners" in key and client.ttl(key) == -1:  # -2: it has just expired
            left.append(f"{key} never expires")
    assert not left, left


@pytest.fixture
async def stream(server: Server, prefix: str) -> AsyncIterator[Producer]:
    opened = Stream(server.url, prefix)
    yield opened
    await opened.close()


@pytest.fixture
async def open_group(stream: Producer) -> AsyncIterator[Callable[..., Any]]:
    """Open consumers of a group: `await open_group("consumer", name="main")`."""
    opened: list[Consumer] = []

    async def open_one(
        consumer: str = "c1",
        name: str = "main",
        dedup_window: int = 3600,
        history: HistoryBounds = NO_HISTORY,
    ) -> Consumer:
        group = Consumer(stream.client, name, consumer, dedup_window=dedup_window, history=history)
        opened.append(group)
        await group.open()
        return group

    yield open_one
    for group in opened:
        await group.close()


@pytest.fixture
def settings(server: Server, prefix: str) -> Callable[..., Settings]:
    """Make settings for this test's server and prefix; the test gives the other fields. An append
    may take longer than by default, because on a busy machine the receiver would answer with 503.
    """
    url = limited.as_all(server.url) if limited.IS_ASKED_FOR else server.url
    ours = {"redis_url": url, "prefix": prefix, "append_timeout": 15}
    return lambda **fields: Settings(**{"host": "127.0.0.1", "port": 0, **ours, **fields})


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start `hookmill COMMAND` as a real process. Kill the processes that still run at the end."""
    started: list[Program] = []

    def start(*command: str, env: dict[str, str], name: str = "", **options: Any) -> Program:
        if limited.IS_ASKED_FOR:
            env = limited.limited_env(command, env)
        program = Program(tmp_path, *command, env=env, name=name, **options)
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the machine's own settings, because they must not affect a test."""
    for name in list(os.environ):
        if name.startswith(("HOOKMILL_", "QSTASH_", "MARBLE_")) or name in {
            "REDIS_URL",
            "REDIS_URL_FILE",
            "PORT",
        }:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Check that no thread, child process or bound log context of the test is left after it."""
    threads, children = set(threading.enumerate()), set(_children())
    yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    # The threads of the default executor belong to the event loop, which ends after this fixture.
    new = [t for t in set(threading.enumerate()) - threads if not t.name.startswith("asyncio_")]
    for thread in new:
        thread.join(5)  # threads of an executor that was shut down without waiting still end
    left = [t.name for t in new if t.is_alive()]
    assert not left, f"threads left running: {left}"
    running = _ended(set(_children()) - children)
    assert not running, f"child processes left running: {running}"


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, f"tasks left running: {left}"


def _adopt_orphans() -> None:
    """Become the parent of processes whose own parent has died, so that the check finds them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_adopt_orphans()


def _children() -> list[int]:
    tasks = Path("/proc/self/task")
    if not tasks.exists():  # macOS
        return []
    children: list[int] = []
    for task in tasks.iterdir():
        with suppress(OSError):  # the thread has ended in the meantime
            children += map(int, (task / "children").read_text().split())
    return children


def _ended(children: set[int], within: float = 5.0) -> list[str]:
    """Give these processes time to end. Kill those that still run, because they would disturb the
    following tests, and return their commands.
    """
    deadline = time.monotonic() + within
    while (running := children & set(_children())) and time.monotonic() < deadline:
        for pid in running:
            with suppress(ChildProcessError):  # other code has already waited for it
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
    commands = []
    for pid in running:
        with suppress(OSError):
            commands.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return commands
