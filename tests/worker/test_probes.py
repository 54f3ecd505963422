"""What a worker's admin address says: of a worker in this process, and of a real one."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hookmill import Delivery, Handlers
from hookmill.config.settings import Settings
from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.ports import free_port
from tests.support import Program, Server, eventually, message, wait_until
from tests.worker.processes import WorkerProcesses
from worker.app import Worker
from worker.metrics import WorkerMetrics
from worker.probes import Probes

MakeSettings = Callable[..., Settings]


@pytest.fixture
async def go_on() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def handlers(go_on: asyncio.Event) -> Handlers[Any]:
    handlers = Handlers()

    @handlers.on("wait")
    async def wait(delivery: Delivery[Message]) -> None:
        await go_on.wait()

    return handlers


@pytest.fixture
async def probes(
    settings: MakeSettings, handlers: Handlers[Any], go_on: asyncio.Event
) -> AsyncIterator[Probes]:
    """The pages of a worker that does not run yet."""
    made = Probes()
    yield made
    go_on.set()
    if made.worker is not None and not made.worker.is_stopping:
        await made.worker.stop(5)


async def code_of(probes: Probes) -> tuple[int, str]:
    answer = await probes.ready()
    return answer.status, "" if answer.status == 200 else json.loads(answer.body)["error"]


async def is_ready(probes: Probes) -> bool:
    return (await probes.ready()).status == 200


async def test_a_worker_is_ready_from_its_first_take_to_its_stop(
    probes: Probes, settings: MakeSettings, handlers: Handlers[Any], stream: Producer
) -> None:
    assert (await probes.alive()).body == b"ok\n"
    assert await code_of(probes) == (503, "starting")
    probes.worker = Worker(settings(), handlers, None)
    assert await code_of(probes) == (503, "group_not_open")
    probes.worker.start()
    await eventually(lambda: is_ready(probes))
    assert (await probes.ready()).body == b"ready: group main, 0 held, 100 free slots\n"
    await probes.worker.stop(5)
    assert await code_of(probes) == (503, "stopping")
    assert (await probes.alive()).status == 200


async def test_a_worker_is_not_ready_while_redis_is_away(
    probes: Probes,
    own_server: Callable[..., Server],
    settings: MakeSettings,
    handlers: Handlers[Any],
) -> None:
    server = own_server()
    probes.worker = Worker(settings(redis_url=server.url, prefix="hookmill"), handlers, None)
    probes.worker.start()
    await eventually(lambda: is_ready(probes))
    server.kill()
    await eventually(lambda: code_says(probes, "stream_unavailable"))
    server.start()
    await eventually(lambda: is_ready(probes))


async def test_a_worker_is_not_ready_once_redis_took_no_heartbeat_for_a_lease(
    probes: Probes,
    own_server: Callable[..., Server],
    settings: MakeSettings,
    handlers: Handlers[Any],
) -> None:
    """A frozen Redis fails no take for long: an idle worker waits for its next message."""
    server = own_server()
    given = settings(redis_url=server.url, prefix="hookmill", lease=1.0)
    probes.worker = Worker(given, handlers, None)
    probes.worker.start()
    await eventually(lambda: is_ready(probes))
    server.signal(signal.SIGSTOP)
    await eventually(lambda: code_says(probes, "stream_unavailable"))
    assert b"no heartbeat" in (await probes.ready()).body
    server.signal(signal.SIGCONT)
    await eventually(lambda: is_ready(probes))


async def code_says(probes: Probes, code: str) -> bool:
    return (await code_of(probes))[1] == code


def gauges(metrics: WorkerMetrics) -> dict[str, float]:
    return {
        sample.name.removeprefix("hookmill_worker_"): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.labels == {"group": "main"}
    }


async def test_gauges_show_what_the_worker_holds_at_this_moment(
    probes: Probes,
    settings: MakeSettings,
    handlers: Handlers[Any],
    stream: Producer,
    go_on: asyncio.Event,
) -> None:
    metrics = WorkerMetrics(probes._now)
    assert gauges(metrics) == {}
    probes.worker = Worker(settings(concurrency=3, threads=2), handlers, None)
    worker = probes.worker
    worker.start()
    await stream.append([message(type="wait"), message(type="wait")])
    await eventually(lambda: gauges(metrics)["held_messages"] == 2)
    shown = gauges(metrics)
    assert 0 <= time.time() - shown.pop("oldest_held_timestamp_seconds") < 60
    expected = {"held_messages": 2, "free_slots": 1, "slots": 3, "free_threads": 2, "threads": 2}
    assert (shown.pop("healthy"), shown.pop("stuck_threads")) == (1, 0)
    assert shown == expected
    go_on.set()
    await eventually(lambda: gauges(metrics)["held_messages"] == 0)
    assert "oldest_held_timestamp_seconds" not in gauges(metrics)


# --- the program -----------------------------------------------------------------------------


def ask(port: int, path: str, host: str = "localhost") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionRefusedError:
        return 0, ""
    finally:
        connection.close()


LIFESPAN = """
import contextlib

@contextlib.asynccontextmanager
async def lifespan():
    while not os.path.exists("go"):
        await asyncio.sleep(0.02)
    yield

handlers = Handlers(lifespan=lifespan)

@handlers.on("*")
async def any(delivery):
    pass
"""


def test_a_real_worker_tells_when_it_works_and_what_it_has(
    processes: WorkerProcesses, tmp_path: Path
) -> None:
    port = free_port()
    worker = processes.start(LIFESPAN, HOOKMILL_ADMIN_PORT=str(port))
    worker.wait_for("admin address open")
    assert ask(port, "/healthz") == (200, "ok\n")  # also while its lifespan begins
    assert ask(port, "/readyz")[0] == 503
    assert ask(port, "/metrics")[0] == 200
    (tmp_path / "go").touch()
    wait_until(lambda: ask(port, "/readyz")[0] == 200)
    status, text = ask(port, "/metrics")
    assert status == 200
    assert 'hookmill_worker_free_slots{group="main"} 100.0' in text
    assert "hookmill_lost_log_lines 0.0" in text
    assert ask(port, "/metrics", host="evil.example")[0] == 421
    half_open = socket.create_connection(("127.0.0.1", port))
    half_open.sendall(b"GET /")
    assert worker.stop() == 0  # whoever is connected does not hold up the stop
    half_open.close()
    assert "Traceback" not in worker.log


def test_a_worker_whose_event_loop_is_blocked_for_a_moment_lives_and_is_not_ready(
    processes: WorkerProcesses,
) -> None:
    port = free_port()
    worker = processes.start(
        """
        @handlers.on("*")
        async def block(delivery):
            say("blocks")
            while not os.path.exists("go"):
                time.sleep(0.02)
        """,
        HOOKMILL_ADMIN_PORT=str(port),
    )
    wait_until(lambda: ask(port, "/readyz")[0] == 200)
    processes.send("any")
    worker.wait_for("blocks")
    assert ask(port, "/healthz") == (200, "ok\n")
    status, text = ask(port, "/readyz")
    assert (status, json.loads(text)["error"]) == (503, "loop_blocked")
    (processes.folder / "go").touch()
    wait_until(lambda: ask(port, "/readyz")[0] == 200)
    assert worker.stop() == 0


@pytest.mark.parametrize("program", ["worker", "receiver"])
def test_a_program_whose_admin_port_is_in_use_ends_with_2_and_names_the_setting(
    processes: WorkerProcesses, start_program: Callable[..., Program], program: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        if program == "worker":
            started = processes.start(LIFESPAN, HOOKMILL_ADMIN_PORT=port)
        else:
            env = {"REDIS_URL": processes.server.url, "PORT": "0", "HOOKMILL_ADMIN_PORT": port}
            started = start_program("receiver", env=env | {"MARBLE_WEBHOOK_SECRET": "a" * 32})
        assert started.wait() == 2
    assert f"HOOKMILL_ADMIN_PORT: cannot listen on 127.0.0.1, port {port}" in started.log
    assert "Traceback" not in started.log


def test_without_the_setting_nothing_listens(processes: WorkerProcesses) -> None:
    worker = processes.start(LIFESPAN)
    (processes.folder / "go").touch()
    worker.wait_for('"working"')
    listening = [line for line in sockets_of(worker.pid) if line.split()[3] == "0A"]
    assert listening == []
    assert "admin address" not in worker.log
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def sockets_of(pid: int) -> list[str]:
    """The TCP sockets of a process, as lines of /proc/net/tcp."""
    links = set[str]()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.add(str(link.readlink()))
    own = {link[8:-1] for link in links if link.startswith("socket:[")}
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[9] in own]
