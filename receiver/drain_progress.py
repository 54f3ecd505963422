"""How far one process has drained the spool, in each partition. No I/O.

A partition that refuses its messages is held up: its rows stay in the file, in their order, while
those of the others are drained past them. They are tried again with each drain.
"""

from __future__ import annotations

from collections.abc import Mapping

from hookmill.errors import StreamUnavailableError
from hookmill.runtime.spool_file import Batch
from hookmill.stream.arrival import Row

Refusals = Mapping[int, StreamUnavailableError]
"""The partitions that refused their rows of a batch, and why."""


class DrainProgress:
    """All rows up to `cursor` were appended, apart from those of partitions that are held up."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.cursor = 0
        self.appended: dict[int, int] = {}
        """For each partition the position up to which its rows were appended."""
        self.undeleted: set[int] = set()
        """The positions of rows that were appended and are still in the file."""
        self.unremembered: set[int] = set()
        """The partitions whose position in `appended` is not written down yet."""
        self._held_up: dict[int, tuple[int, StreamUnavailableError]] = {}

    @property
    def held_up(self) -> dict[int, StreamUnavailableError]:
        """The partitions that are held up, and why."""
        return {partition: error for partition, (_, error) in self._held_up.items()}

    @property
    def is_held_up(self) -> bool:
        """Whether all partitions are held up."""
        return len(self._held_up) == self.partitions

    def is_pending(self, position: int, row: Row) -> bool:
        """Whether a row has to be appended."""
        return position > self.appended.get(row.partition(self.partitions), 0)

    def is_next(self, position: int, row: Row) -> bool:
        """Whether a row behind the cursor can be appended now."""
        if not self.is_pending(position, row):
            self.undeleted.add(position)  # another process appended it
            return False
        return row.partition(self.partitions) not in self._held_up

    def is_of(self, partition: int, position: int, row: Row) -> bool:
        """Whether a row has to be appended and belongs to this partition."""
        return row.partition(self.partitions) == partition and self.is_pending(position, row)

    def span_of(self, partition: int) -> tuple[int, int]:
        """Return two positions: the rows of a partition that is held up wait behind the first one,
        and up to the second one.
        """
        return self._held_up[partition][0] - 1, self.cursor

    def note(self, batch: Batch, refused: Refusals) -> int:
        """Note the answer to an append; return how many of the rows were appended."""
        count = 0
        for position, row in zip(batch.positions, batch.rows, strict=True):
            partition = row.partition(self.partitions)
            if partition in refused:
                first, _ = self._held_up.get(partition, (position, None))
                self._held_up[partition] = first, refused[partition]
            else:
                self.appended[partition] = position
                self.undeleted.add(position)
                self.unremembered.add(partition)
                count += 1
        self.cursor = max(self.cursor, batch.last)
        return count

    def go_on(self, partition: int, last: int) -> None:
        """Note that the rows of a partition that is held up were appended up to `last`."""
        self._held_up[partition] = last + 1, self._held_up[partition][1]

    def let_go(self, partition: int) -> None:
        """Note that a partition is not held up any more."""
        del self._held_up[partition]

    def appended_elsewhere(self, positions: Mapping[int, int]) -> None:
        """Note how far other processes have appended."""
        for partition, position in positions.items():
            self.appended[partition] = max(position, self.appended.get(partition, 0))
