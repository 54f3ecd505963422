"""Asks a program on this machine whether it is healthy, or ready, as a platform's HTTP probe does.

With a plain socket: this runs every few seconds in each container, and an HTTP client takes longer
to import than the question takes.
"""

from __future__ import annotations

import json
import re
import socket
import time
from typing import NamedTuple

from hookmill.errors import SettingsError

TIMEOUT = 3.0
"""Seconds that an answer may take. /readyz asks Redis, which may take a receiver 1.5 s."""

MOST = 64 * 1024
"""Bytes of an answer that are read."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_PROGRAM = re.compile(rb"^Hookmill-Program: ([a-z]{1,32})\r$", re.MULTILINE)
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - to be asked


class Probed(NamedTuple):
    """What a program has answered. `status` is 0 where there was no answer; `program` is "" where
    it does not say what it is. `code` is one of docs/reference/answers.md, or `no_answer`.
    """

    ok: bool
    program: str = ""
    status: int = 0
    code: str = ""
    detail: str = ""


def probe(host: str, port: int, *, program: str | None = None, ready: bool = False) -> Probed:
    """Ask whether the program at this address is healthy; with `ready`, whether it is ready. With
    a `program`, only this one will do. Raise `SettingsError` if the port cannot be asked.
    """
    setting = "HOOKMILL_CONSOLE_PORT" if program == "console" else "HOOKMILL_ADMIN_PORT"
    if port == 0:
        raise SettingsError(
            [f"{setting} is 0, so the system chooses the port: set one, to be asked there"]
        )
    path = "/readyz" if ready else "/healthz"
    host = _EVERY_ADDRESS.get(host, host)
    try:
        answer = _ask(host, port, path)
    except TimeoutError:
        return _no_answer(
            f"no answer from {host}, port {port}, within {TIMEOUT:g} s: the program stands still"
        )
    except OSError as error:
        return _no_answer(
            f"nothing answers at {host}, port {port} ({error.strerror or error}): the program does "
            f"not run yet or any more, or {setting} is another one there"
        )
    return _judged(answer, program)


def _ask(host: str, port: int, path: str) -> bytes:
    until = time.monotonic() + TIMEOUT
    with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while len(answer) < MOST:
            # For all of the answer: one that comes byte by byte must not hold up a probe.
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError
            connection.settimeout(left)
            if not (more := connection.recv(MOST)):
                break
            answer += more
    return answer


def _judged(answer: bytes, wanted: str | None) -> Probed:
    head, _, body = answer.partition(b"\r\n\r\n")
    line = _STATUS.match(head)
    if line is None:
        return _no_answer("what listens there is no program of Hookmill")
    status = int(line[1])
    named = _PROGRAM.search(head + b"\r")
    program = named[1].decode() if named else ""
    if wanted is not None and program not in {"", wanted}:
        return Probed(
            ok=False,
            program=program,
            status=status,
            code="other_program",
            detail=f"a {program} answers there, and not a {wanted}",
        )
    code, detail = _said(body)
    return Probed(ok=status == 200, program=program, status=status, code=code, detail=detail)


def _said(body: bytes) -> tuple[str, str]:
    """Return the code and the sentence of an answer; one that is well has no code."""
    text = body.decode("utf-8", "replace").strip()
    try:
        said = json.loads(text)
        return str(said["error"]), str(said["detail"])
    except (ValueError, TypeError, KeyError):
        return "", text


def _no_answer(detail: str) -> Probed:
    return Probed(ok=False, code="no_answer", detail=detail)
