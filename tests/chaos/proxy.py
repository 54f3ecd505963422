"""A TCP proxy in front of Redis. It does to connections what networks and load balancers do."""

from __future__ import annotations

import asyncio
import time

PIECE = 64 * 1024
"""Bytes that are read at a time. On a slow line, connections take turns with pieces."""


class _Session:
    """A connection of a program, and the one to the server that belongs to it."""

    def __init__(self, program: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self.writers = [program]
        self.task = task
        self.used = time.monotonic()
        self.is_stranded = False

    def end(self) -> None:
        """Close both connections."""
        for writer in self.writers:
            writer.close()


class Proxy:
    """Leads connections to the server at `port`; the faults are its methods."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._sessions: set[_Session] = set()
        self._stranded: list[_Session] = []
        self._rate: float | None = None
        self._free_at = [0.0, 0.0]
        self._cutting: asyncio.Task[None] | None = None
        self.port = 0

    async def open(self) -> None:
        """Begin to listen on `port`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=PIECE)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut_idle(None)
        tasks = [session.task for session in self._sessions]
        for session in [*self._sessions, *self._stranded]:
            for writer in session.writers:
                writer.transport.abort()
            session.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def lead_to(self, port: int, *, keep_sessions: bool) -> None:
        """From now on, new connections go to another server."""
        self._target = port
        if not keep_sessions:
            for session in self._sessions:
                session.end()

    def throttle(self, bytes_per_second: float | None) -> None:
        """Let only so many bytes a second pass, in each direction. None: as many as there are."""
        self._rate = bytes_per_second

    def cut_idle(self, after: float | None) -> None:
        """End connections that were silent for so many seconds. None: end none."""
        if self._cutting is not None:
            self._cutting.cancel()
        self._cutting = None if after is None else asyncio.create_task(self._cut(after))

    def forget_sessions(self) -> None:
        """Make all connections half-open: nothing arrives any more, and none is closed."""
        for session in self._sessions:
            session.is_stranded = True
            session.task.cancel()

    async def _cut(self, after: float) -> None:
        while True:
            await asyncio.sleep(after / 10)
            for session in self._sessions:
                if time.monotonic() - session.used > after:
                    session.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        session = _Session(writer, task)
        self._sessions.add(session)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target, limit=PIECE)
            session.writers.append(back)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(session, reader, back, 0))
                ways.create_task(self._carry(session, there, writer, 1))
        except* (OSError, asyncio.CancelledError):
            pass  # one of the two ends is gone, or this session ends here
        finally:
            self._sessions.discard(session)
            if session.is_stranded:
                self._stranded.append(session)
            else:
                session.end()

    async def _carry(
        self,
        session: _Session,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        way: int,
    ) -> None:
        while piece := await source.read(PIECE):
            session.used = time.monotonic()
            if self._rate is not None:
                self._free_at[way] = max(self._free_at[way], session.used) + len(piece) / self._rate
                await asyncio.sleep(self._free_at[way] - session.used)
            if target.is_closing():
                break
            target.write(piece)
            await target.drain()
        raise ConnectionResetError("one end has closed the connection")
