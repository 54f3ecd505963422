"""A supervisor keeps its processes running, and leaves none behind, whatever happens to them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tests.ports import free_port
from tests.runtime.supervising import Supervising, is_alive
from tests.support import wait_until

READY = "all processes are ready"
DIED = "a process has ended: starting it again"


def test_one_that_is_killed_is_started_again_and_the_others_go_on(
    supervise: Callable[..., Supervising],
) -> None:
    running = supervise()
    running.wait_for(READY)
    first, second = running.children()
    os.kill(first, signal.SIGKILL)
    running.wait_for(f'"{DIED}"')
    running.wait_for("child ", 3)
    (died,) = [line for line in running.lines if line["event"] == DIED]
    assert (died["pid"], died["signal"], died["process"]) == (
        first, "SIGKILL", running.number_of(first),
    )  # fmt: skip
    assert running.number_of(running.children()[2]) == running.number_of(first)
    assert is_alive(second)
    assert running.stop() == 0
    assert f"gone {second}" in running.text


def test_none_is_left_when_the_supervisor_is_killed(supervise: Callable[..., Supervising]) -> None:
    running = supervise()
    running.wait_for(READY)
    running.signal(signal.SIGKILL)
    running.wait()
    children = running.children()
    wait_until(lambda: not any(map(is_alive, children)), what="the processes to end")
    assert all(f"gone {child}" in running.text for child in children)  # they stopped in order


def test_one_that_cannot_start_is_tried_at_growing_intervals(
    supervise: Callable[..., Supervising], tmp_path: Path
) -> None:
    (tmp_path / "fate-1").write_text("1")
    running = supervise()
    running.wait_for(DIED, 3)
    died = [line for line in running.lines if line["event"] == DIED]
    assert [line["seconds"] for line in died[:3]] == [0.5, 1.0, 2.0]
    assert {(line["process"], line["status"]) for line in died} == {(1, 1)}
    assert is_alive(running.children()[0])
    assert running.stop() == 0


def test_all_end_with_2_where_the_settings_are_wrong(
    supervise: Callable[..., Supervising], tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / f"fate-{number}").write_text("2")
    running = supervise()
    assert running.wait() == 2
    assert DIED not in running.text


def test_wrong_settings_of_one_that_died_do_not_end_those_that_work(
    supervise: Callable[..., Supervising], tmp_path: Path
) -> None:
    running = supervise()
    running.wait_for(READY)
    first, second = sorted(running.children(), key=running.number_of)
    (tmp_path / "fate-1").write_text("2")
    os.kill(first, signal.SIGKILL)
    running.wait_for('"status":2')
    assert is_alive(second)
    assert running.stop() == 0


def test_one_after_another_is_replaced_each_by_one_that_is_ready(
    supervise: Callable[..., Supervising],
) -> None:
    running = supervise()
    running.wait_for(READY)
    before = running.children()
    running.signal(signal.SIGUSR2)
    running.wait_for("all processes are replaced")
    words = [line.split() for line in running.text.splitlines() if line[0] in "cg"]
    assert [word for word, *_ in words[2:]] == ["child", "gone", "child", "gone"]
    assert {int(pid) for word, pid in [w for w in words if len(w) == 2]} == set(before)
    assert not any(map(is_alive, before))
    assert running.stop() == 0


def test_a_new_one_that_does_not_start_leaves_the_old_ones_in_place(
    supervise: Callable[..., Supervising], tmp_path: Path
) -> None:
    running = supervise()
    running.wait_for(READY)
    (tmp_path / "fate-1").write_text("2")
    running.signal(signal.SIGUSR2)
    running.wait_for("the other processes are not replaced")
    assert all(map(is_alive, running.children()))
    assert running.stop() == 0


def test_one_that_does_not_get_ready_is_replaced_at_once_and_counts_as_no_death(
    supervise: Callable[..., Supervising],
) -> None:
    late = "import threading; from hookmill.runtime import supervised as s; stop = threading.Event"
    late += "(); s.begin(stop.set, stop.set); print('begun', flush=True); stop.wait()"
    running = supervise(
        sys.executable, "-c", late, processes=1, admin_port=0, admin_host="127.0.0.1"
    )
    running.wait_for("begun")
    running.signal(signal.SIGUSR2)
    running.wait_for("begun", 2)
    assert DIED not in running.text
    assert "hookmill_process_deaths_total 0.0" in running.ask("/metrics")[1]
    assert running.stop() == 0


def test_signals_are_passed_on_to_all(supervise: Callable[..., Supervising]) -> None:
    running = supervise()
    running.wait_for(READY)
    running.signal(signal.SIGUSR1)
    for child in running.children():
        running.wait_for(f"got SIGUSR1 {child}")
    running.signal(signal.SIGHUP)  # a worker stops, as a single one does
    assert running.wait() == 0
    receivers = supervise(program="receiver", host="127.0.0.1")
    receivers.wait_for(READY)
    receivers.signal(signal.SIGHUP)
    for child in receivers.children():
        receivers.wait_for(f"got SIGHUP {child}")
    assert receivers.stop() == 0


def test_a_second_signal_ends_them_at_once(supervise: Callable[..., Supervising]) -> None:
    stubborn = "import time; from hookmill.runtime import supervised as s; import os;"
    stubborn += "s.begin(lambda: None, lambda: os._exit(143)); s.current().ready(); time.sleep(99)"
    running = supervise(sys.executable, "-c", stubborn, shutdown=60.0)
    running.wait_for(READY)
    running.signal(signal.SIGTERM)
    running.wait_for("stopping all processes")
    running.signal(signal.SIGTERM)
    assert running.wait() == 143


def test_a_port_that_is_taken_is_a_clear_fault(supervise: Callable[..., Supervising]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        running = supervise(program="receiver", host="127.0.0.1", port=port)
        assert running.wait() == 2
    said = f"hookmill: cannot listen on 127.0.0.1, port {port}: Address already in use"
    assert said in running.text
