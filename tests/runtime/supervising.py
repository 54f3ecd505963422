"""Runs a supervisor as a process of its own, with children that cost little to start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from hookmill.runtime.plan import VARIABLE, ProcessPlan
from tests.support import wait_until

CHILD = """
import os, signal, sys, threading
from pathlib import Path
from hookmill.runtime import supervised

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

stop = threading.Event()
supervised.begin(stop.set, lambda: os._exit(7))
me = supervised.current()
def answer(connection):
    assert not connection.get_inheritable()
    path = connection.recv(4096).split(b" ")[1].decode().strip("/")
    says = Path(f"{path}-{me.number}")
    status, _, body = (says.read_text() if says.exists() else "200 well").partition(" ")
    head = f"HTTP/1.1 {status} X\\r\\nContent-Type: text/plain\\r\\n\\r\\n"
    if body != "nothing":
        connection.sendall((head + body).encode())
    connection.close()
    if Path(f"ends-{me.number}").exists():
        os._exit(0)

me.answer_with(answer)
for one in (signal.SIGHUP, signal.SIGUSR1):
    signal.signal(one, lambda number, _: say("got", signal.Signals(number).name, os.getpid()))
for one in me.sockets:
    one.listen()
fate = Path(f"fate-{me.number}")
if fate.exists():
    sys.exit(int(fate.read_text()))
say("child", me.number, os.getpid())
me.ready()
while not stop.wait(0.02):
    pass
say("gone", os.getpid())
"""
"""A program that says what happens to it. A file `fate-1` ends the first one with that status, and
`readyz-1` has the status and the body of its answer. With `ends-1`, the first one ends when it has
answered.
"""


class Supervising:
    """A supervisor of such children, in a folder. `fields` are those of its plan."""

    def __init__(self, folder: Path, command: list[str] | None = None, **fields: Any) -> None:
        command = command or [sys.executable, "-c", CHILD]
        given: dict[str, Any] = {"program": "worker", "processes": 2, "shutdown": 5.0, **fields}
        plan = ProcessPlan(command=command, log_format="json", log_level="info", **given)
        self._log = folder / "supervisor.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hookmill.runtime.supervisor"],
                env=os.environ | {VARIABLE: json.dumps(plan._asdict())},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        return self._log.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The supervisor's own log lines."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def ask(self, page: str, **headers: str) -> tuple[int, str]:
        """Ask the supervisor's admin address."""
        (opened,) = [line for line in self.lines if line["event"] == "admin address open"]
        asked = urllib.request.Request(f"http://127.0.0.1:{opened['port']}{page}", headers=headers)
        try:
            with urllib.request.urlopen(asked) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def children(self) -> list[int]:
        """The process IDs of all children that were ready, in that order."""
        said = [line.split() for line in self.text.splitlines() if line.startswith("child ")]
        return [int(words[2]) for words in said]

    def number_of(self, pid: int) -> int:
        """The number of a child."""
        said = [line.split() for line in self.text.splitlines() if line.startswith("child ")]
        return next(int(words[1]) for words in said if int(words[2]) == pid)

    def wait_for(self, text: str, times: int = 1) -> None:
        with suppress(AssertionError):  # the assertion below shows the log, which says more
            wait_until(lambda: self.text.count(text) >= times or self._process.poll() is not None)
        assert self.text.count(text) >= times, self.text

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(30)

    def stop(self) -> int:
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children then end by themselves
            raise


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody waits for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
