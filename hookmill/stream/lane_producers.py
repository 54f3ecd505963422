"""The producers of all lanes of a stream, as one: what one lane cannot take stays that lane's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from hookmill.errors import PartitionsError, StreamUnavailableError
from hookmill.stream.arrival import Row
from hookmill.stream.client import Client, checked
from hookmill.stream.facts import NO_LIMIT, Backlog
from hookmill.stream.producer import Producer

PROBE_SHARE = 0.8
"""The share of the timeout within which a lane has to say whether it takes writes."""


class LaneProducers(Producer):
    """Does what `Producer` does, in each lane by itself. `client` is that of the whole stream."""

    def __init__(
        self,
        client: Client,
        *,
        durability: str = "memory",
        limit: Backlog = NO_LIMIT,
        lanes: Iterable[Producer] | None = None,
    ) -> None:
        super().__init__(client, durability=durability, limit=limit)
        self.lanes = [
            *(
                lanes
                or (Producer(lane, durability=durability, limit=limit) for lane in client.lanes())
            )
        ]
        self._lane_of = {number: lane for lane in self.lanes for number in lane.client.numbers}

    def with_timeout(self, seconds: float) -> LaneProducers:
        """Return producers with connections of their own, as `Producer` does."""
        return LaneProducers(
            self.client.with_timeout(seconds),
            lanes=[lane.with_timeout(seconds) for lane in self.lanes],
        )

    async def append_rows(self, rows: Sequence[Row]) -> list[str | StreamUnavailableError]:
        """Append rows, each lane's in one round trip. Return for each row what became of it: what
        concerns all rows of one lane is the result of each of them.
        """
        numbers: dict[Producer, list[int]] = {}
        for number, row in enumerate(rows):
            lane = self._lane_of[row.partition(self.client.total)]
            numbers.setdefault(lane, []).append(number)
        answers = await self._each(
            (lane, lane.append_rows([rows[number] for number in some]))
            for lane, some in numbers.items()
        )
        results: list[str | StreamUnavailableError] = [""] * len(rows)
        for lane, some in numbers.items():
            answer = answers[lane]
            if isinstance(answer, PartitionsError):
                checked(answer)  # it raises
            each = answer if isinstance(answer, list) else [answer] * len(some)
            for number, result in zip(some, each, strict=True):
                results[number] = result
        return results

    async def full(self, partitions: Iterable[int]) -> set[int]:
        """Return which of these partitions would refuse an append, as far as that is known."""
        asked: dict[Producer, list[int]] = {}
        for number in partitions:
            asked.setdefault(self._lane_of[number], []).append(number)
        answers = await self._each((lane, lane.full(some)) for lane, some in asked.items())
        return {n for answer in answers.values() if isinstance(answer, set) for n in answer}

    async def probe(self) -> None:
        """Raise `StreamUnavailableError` unless a lane takes writes now."""
        await self.away()

    async def away(self) -> dict[int, StreamUnavailableError]:
        """Return the partitions whose lanes take no writes now, and why; raise that if none does.

        Another number of partitions raises too, whichever lane says so.
        """
        answers = await self._each((lane, self._probe(lane)) for lane in self.lanes)
        errors = {
            lane: one for lane, one in answers.items() if isinstance(one, StreamUnavailableError)
        }
        for error in errors.values():
            if len(errors) == len(self.lanes) or isinstance(error, PartitionsError):
                checked(error)  # it raises
        return {n: error for lane, error in errors.items() for n in lane.client.numbers}

    async def _probe(self, lane: Producer) -> None:
        """Probe a lane. Whoever asks waits for the client's timeout, and wants to know the others'
        answers by then.
        """
        try:
            async with asyncio.timeout(self.client.timeout * PROBE_SHARE):
                await lane.probe()
        except TimeoutError:
            raise StreamUnavailableError("the server does not answer in time") from None

    async def _each(self, asked: Iterable[tuple[Producer, Any]]) -> dict[Producer, Any]:
        """Ask lanes at the same time. What one of them raises is its answer."""
        by_lane = dict(asked)
        answers = await asyncio.gather(*by_lane.values(), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, StreamUnavailableError):
                raise answer
        return dict(zip(by_lane, answers, strict=True))

    async def close(self) -> None:
        """Close the connections of all lanes, and the client of the whole stream."""
        for lane in self.lanes:
            await lane.close()
        await super().close()
