"""One fuzz run. It starts the receiver, sends everything, and checks the answers, the stored
messages, the log and the memory.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import redis
from multidict import CIMultiDict
from yarl import URL

from hookmill.message import about_of, body_of
from hookmill.runtime.log_limit import PER_SECOND
from tests.fuzz_requests.corpus import OWN_SOURCES, kept
from tests.fuzz_requests.model import (
    BODY_LIMIT,
    LIMIT,
    PUBLIC_URL,
    VERIFY_TOKEN,
    Ask,
    Expect,
    Send,
    Verdict,
)
from tests.fuzz_requests.raw import RawMaker
from tests.fuzz_requests.sources import key_of, senders
from tests.fuzz_requests.wire import TIME_LIMIT, Wire
from tests.ports import free_port
from tests.support import Program, Server

WIRES, CLIENTS = 24, 8
"""Number of connections on which the run writes raw bytes, and of those of an HTTP client."""

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "4194304"}
"""What makes glibc give back the memory of large bodies at once, so that growth can be seen."""

GROWTH = 16 * 1024
"""KiB that the receiver's memory may grow between the first tenth of the requests and the last."""


class Fuzz:
    """One run from start to verdict."""

    def __init__(self, folder: Path, *, requests: int, seed: int, binary: str) -> None:
        self.folder = folder
        self.requests = requests
        self.server = Server(binary, folder)
        self.port = free_port()
        self.senders = senders()
        self.makers = [
            RawMaker(self.senders, random.Random(f"{seed}:{lane}"), lane)
            for lane in range(WIRES + CLIENTS)
        ]
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.failures: list[str] = []
        self.accepted: set[bytes] = set()
        self.stored: set[bytes] = set()
        self.entries = 0
        self.pid = 0
        self.rss_early = 0
        self._next_look = requests // 10

    async def run(self) -> Verdict:
        """Send everything, then check the stored messages, the log and the memory."""
        self.server.start()
        receiver = self._receiver()
        try:
            await asyncio.to_thread(receiver.wait_for, '"receiving"')
            self.pid = receiver.pid
            began = time.monotonic()
            await self._replay()
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=TIME_LIMIT),
            ) as session:
                lanes = [self._on_wire(maker) for maker in self.makers[:WIRES]]
                lanes += [self._by_client(maker, session) for maker in self.makers[WIRES:]]
                watching = asyncio.create_task(self._watch())
                await asyncio.gather(*lanes)
                self._fail_unless(self.requests >= len(lanes), "fewer requests than connections")
            watching.cancel()
            await asyncio.wait([watching])
            seconds = time.monotonic() - began
            rss_late = await self._rss_at_rest()
            await asyncio.to_thread(self._collect)
            self._fail_unless(receiver.returncode is None, "the receiver has ended")
            receiver.stop()
            return self._verdict(receiver, seconds, rss_late)
        finally:
            receiver.kill()
            self.server.kill()

    def _receiver(self) -> Program:
        env = {
            "REDIS_URL": self.server.url,
            "PORT": str(self.port),
            "HOOKMILL_HOST": "127.0.0.1",
            "HOOKMILL_PREFIX": "fuzz",
            "HOOKMILL_PUBLIC_URL": PUBLIC_URL,
            "HOOKMILL_BODY_LIMIT": str(BODY_LIMIT),
            **MALLOC,
            "HOOKMILL_READ_TIMEOUT": "2",
            "HOOKMILL_APPEND_TIMEOUT": "10",
            "FUZZ_TOKEN": VERIFY_TOKEN,
        }
        toml = ""
        for number, sender in enumerate(self.senders):
            env[f"FUZZ_SECRET_{number}"] = sender.secret
            toml += f'[sources.{sender.name}]\nsecrets = "env:FUZZ_SECRET_{number}"\n'
            toml += 'verify_token = "env:FUZZ_TOKEN"\n' if sender.name == "meta" else ""
        for name, words in OWN_SOURCES.items():
            toml += f'[sources.{name}]\nsecrets = "env:FUZZ_SECRET_0"\n{words}\n'
        (self.folder / "hookmill.toml").write_text(toml)
        return Program(self.folder, "receiver", env=env)

    # Sending

    async def _replay(self) -> None:
        """Send what is kept in the corpus: none of it may be accepted."""
        for name, data in kept():
            wire = await Wire.open(self.port)
            wire.write(data)
            status, body, _ = await wire.answer(is_head=False)
            self._judge_status(f"kept, {name}", Expect.REFUSED, status, body, data)
            self._fail_unless(status in {400, 401}, f"kept, {name}: {status}")
            self.kinds["kept"] += 1
            wire.close()

    def _take(self) -> bool:
        if self.count >= self.requests:
            return False
        self.count += 1
        if self._next_look <= self.count <= self.requests // 5:
            # By requests, not by time: a busy machine may be late. The least of all looks counts,
            # because a large body may be in memory at the moment.
            self._next_look = self.count + self.requests // 1_000
            self.rss_early = min(self.rss_early or 2**40, rss_of(self.pid))
        return True

    async def _by_client(self, maker: RawMaker, session: aiohttp.ClientSession) -> None:
        base = f"http://127.0.0.1:{self.port}"
        while self._take():
            kind, ask = maker.ask()
            try:
                headers = CIMultiDict(
                    (name.decode(), value.decode()) for name, value in ask.headers
                )
            except UnicodeDecodeError:
                kind, ask, headers = "genuine", *maker.plain()
            self.kinds[kind] += 1
            try:
                async with session.request(
                    ask.method, URL(base + ask.target, encoded=True), data=_as_data(ask.body),
                    headers=headers, allow_redirects=False, skip_auto_headers=["Content-Type"],
                ) as answer:  # fmt: skip
                    body = await answer.read()
                    self._judge(kind, ask, answer.status, body)
            except (aiohttp.ClientError, TimeoutError, UnicodeEncodeError) as error:
                # A client that is refused while it still sends may not see the answer, and some
                # of these requests a client cannot send.
                self._judge(kind, ask, 0, repr(error).encode())

    async def _on_wire(self, maker: RawMaker) -> None:
        wire: Wire | None = None
        while self._take():
            if wire is None:
                wire = await Wire.open(self.port)
            send = maker.send()
            self.kinds[send.kind] += 1
            # A pipelined write has several requests.
            self.count += max(len(send.asks), 1) - 1
            try:
                is_open = await self._exchange(wire, send)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                # If a request is refused before all of it was read, the connection may be reset,
                # and its answer is lost.
                may_be = any(ask.expect in {Expect.REFUSED, Expect.EITHER} for ask in send.asks)
                self.results["unanswered"] += len(send.asks)
                self._fail_unless(
                    may_be,
                    f"{send.kind}: {error!r} for {send.data[:300]!r}",
                )
                is_open = False
            if not is_open:
                wire.close()
                wire = None
        if wire is not None:
            wire.close()

    async def _exchange(self, wire: Wire, send: Send) -> bool:
        """Write, and read the answers. Return whether the connection can still be used."""
        wire.write(send.data)
        if not send.asks:
            for status, body in await wire.answers(waits=send.waits) or [(0, b"")]:
                self._judge_status(send.kind, send.expect, status, body, send.data)
            return False
        for position, ask in enumerate(send.asks):
            status, body, is_open = await wire.answer(is_head=ask.method == "HEAD")
            self._judge(send.kind, ask, status, body)
            if not is_open:
                # The receiver must not read the requests behind this one.
                self.results["unanswered"] += len(send.asks) - position - 1
                return False
        return True

    # Judging

    def _judge(self, kind: str, ask: Ask, status: int, body: bytes) -> None:
        self._judge_status(kind, ask.expect, status, body, ask)
        if ask.expect is Expect.ACCEPTED and 200 <= status < 300:
            self.accepted.add(ask.key)

    def _judge_status(
        self, kind: str, expect: Expect, status: int, body: bytes, what: object
    ) -> None:
        if status == 503 and b'"busy"' in body:  # too many large bodies at once
            self.results["busy"] += 1
            return
        is_yes, is_no = 200 <= status < 300, 400 <= status < 500
        self.results["unanswered" if status == 0 else expect.value if is_yes else "refused"] += 1
        good = {
            Expect.ACCEPTED: is_yes,
            Expect.ANSWERED: is_yes,
            Expect.REFUSED: is_no or status == 0,
            Expect.EITHER: is_yes or is_no or status == 0,
        }[expect]
        self._fail_unless(
            good,
            f"{kind}: {status}, but expected {expect.value}: {body[:200]!r} {repr(what)[:600]}",
        )

    def _fail_unless(self, good: object, failure: str) -> None:
        if not good and len(self.failures) < 20:
            self.failures.append(failure)

    async def _watch(self) -> None:
        """Empty the stream from time to time."""
        while True:
            await asyncio.sleep(0.2)
            await asyncio.to_thread(self._collect)

    async def _rss_at_rest(self) -> int:
        """Return the receiver's memory once the last large bodies are freed, or after 20 s."""
        least, looks = rss_of(self.pid), 200
        while least - self.rss_early > GROWTH and (looks := looks - 1):
            await asyncio.sleep(0.1)
            least = min(least, rss_of(self.pid))
        return least

    def _collect(self) -> None:
        """Remove the entries from the stream, and remember their sources and bodies."""
        with redis.Redis.from_url(self.server.url) as client:
            while True:
                found: Any = client.xrange("fuzz:{0}:stream", count=2_000)
                if not found:
                    return
                for _, fields in found:
                    self.stored.add(key_of(about_of(fields).source, body_of(fields)))
                self.entries += len(found)
                client.xdel("fuzz:{0}:stream", *(entry for entry, _ in found))

    def _verdict(self, receiver: Program, seconds: float, rss_late: int) -> Verdict:
        signed = set[bytes]().union(*(maker.signed for maker in self.makers))
        forged, missing = self.stored - signed, self.accepted - self.stored
        self._fail_unless(not forged, f"{len(forged)} stored without having been signed")
        self._fail_unless(not missing, f"{len(missing)} accepted but not stored")
        busy = self.results["busy"]
        self._fail_unless(busy <= self.count // 100 + 10, f"{busy} were refused as too much")
        self._fail_unless(self.rss_early, "the receiver's memory was not looked at early")
        grown = rss_late - self.rss_early
        self._fail_unless(grown <= GROWTH, f"the receiver grew by {grown} KiB")
        lines, refusals = self._read_log(receiver, seconds)
        return Verdict(
            requests=self.count,
            genuine=self.results["accepted"],
            handshakes=self.results["answered"],
            refused=self.results["refused"],
            unanswered=self.results["unanswered"],
            busy=busy,
            stored=self.entries,
            seconds=seconds,
            rate=round(self.count / seconds),
            rss_early=self.rss_early,
            rss_late=rss_late,
            log_lines=lines,
            refusal_lines=refusals,
            failures=self.failures,
        )

    def _read_log(self, receiver: Program, seconds: float) -> tuple[int, int]:
        """Check the log. Return the number of its lines, and of those about refused requests, which
        are limited to some lines of each kind per second.
        """
        lines, kinds = 0, Counter[tuple[str, ...]]()
        with receiver.log_path.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                lines += 1
                self._fail_unless(len(line) < 2_000, f"a line of {len(line)}: {line[:300]}")
                words = _words(line)
                self._fail_unless(words is not None, f"not a line of the log: {line[:300]}")
                self._fail_unless("Traceback" not in line, f"a traceback: {line[:600]}")
                if words is None:
                    continue
                level = words.get("level")
                self._fail_unless(level not in {"error", "critical"}, f"an error: {line[:600]}")
                if words.get("event") != "accepted":
                    event = str(words.get("event", ""))[:20]
                    kinds[event, str(words.get("source")), str(words.get("code"))] += 1
        for kind, count in kinds.items():
            most = PER_SECOND * (int(seconds) + 3)
            self._fail_unless(count <= most, f"{count} lines of {kind}, at most {most} are allowed")
        written = receiver.log_path.read_bytes()
        for secret in [sender.secret for sender in self.senders] + [VERIFY_TOKEN]:
            self._fail_unless(secret.encode() not in written, "a secret is in the log")
        return lines, kinds.total()


def _as_data(body: bytes) -> bytes | io.BytesIO | None:
    """Return a body as the client likes it: it warns of large bytes."""
    return io.BytesIO(body) if len(body) > LIMIT else body or None


def _words(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def rss_of(pid: int) -> int:
    """Return a process's resident memory in KiB."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():  # a small container image has no `ps`
        return int(status.read_text().partition("VmRSS:")[2].split()[0])
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
    return int(said.stdout)
