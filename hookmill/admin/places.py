"""Tells one group's part of a message's story: in which places it is, and what was tried.

What Redis has no index for is looked through only up to a bound; then a note says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hookmill.admin.stories import GroupStory, Place, State, Tried
from hookmill.admin.units import moment
from hookmill.message import Fields, Progress
from hookmill.stream.attempts import Attempt
from hookmill.stream.client import Client
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.history import History
from hookmill.stream.whereabouts import MOST_LOOKED_AT, Whereabouts

_ENDS: dict[str, State] = {"done": "handled", "discarded": "discarded", "ignored": "ignored"}

NO_RECORD = (
    "the group has finished it, and its history has nothing of it: its worker keeps no history (it "
    "is of an older release, or has HOOKMILL_HISTORY=0), or what was kept has made room for newer "
    "messages, or its dead letter was dropped"
)
DROPPED = "its dead letter is no longer there: it was dropped, or a replay of it has left no record"
TRIMMED = (
    "its entry was trimmed from the stream, so whether it is parked for an ordering key was not "
    "looked for"
)
NO_ERRORS = "the history of this group has no attempt of it"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The message that a story is about: its owner token, and its fields where they are known."""

    partition: int
    token: str
    fields: Fields | None
    digest: bytes
    received_ms: int = 0

    def entry(self, entry_id: str) -> str:
        """Return the name of an entry, as people give it."""
        return f"{entry_id}@{self.partition}" if self.partition else entry_id


class _Teller:
    """Gathers one group's part. It is used once."""

    def __init__(
        self, client: Client, group: str, subject: Subject, most: int = MOST_LOOKED_AT
    ) -> None:
        self.group = group
        self.subject = subject
        self.look = Whereabouts(client, most)
        self.history = History(client)
        self.heartbeats = Heartbeats(client, group)
        self.places: list[Place] = []
        self.notes: list[str] = []
        self.attempts: list[Attempt] = []
        self.workers: dict[str, Heartbeat] = {}
        self.now_ms = 0

    async def tell(self) -> GroupStory:
        one = self.subject
        self.now_ms = await self.look.now_ms()
        self.workers = {worker.name: worker for worker in await self.heartbeats.read()}
        self.attempts = await self.history.attempts(self.group, one.partition, one.token)
        last = await self.look.last_delivered(self.group, one.partition)
        if last and _parts(one.token) > _parts(last):
            self.places.append(
                Place(state="waiting", entry=one.entry(one.token), since=moment(one.received_ms))
            )
        else:
            await self._find_taken()
        if not self.places:
            self.places.append(Place(state="finished"))
            self.notes.append(DROPPED if self._has_died() else NO_RECORD)
        elif not self.attempts and any(place.attempts for place in self.places):
            self.notes.append(NO_ERRORS)
        return GroupStory(
            group=self.group,
            places=tuple(self.places),
            attempts=tuple(self._tried(one) for one in self.attempts if one.kind != "duplicate"),
            duplicates=tuple(
                self.subject.entry(one.duplicate)
                for one in self.attempts
                if one.kind == "duplicate"
            ),
            notes=tuple(self.notes),
        )

    def _has_died(self) -> bool:
        return any(one.dead_id for one in self.attempts)

    async def _find_taken(self) -> None:
        """Find the places of a message that the group was given."""
        one = self.subject
        if holder := await self.look.holder(self.group, one.partition, one.token, again=False):
            self._held(holder.worker, holder.deliveries, one.token, one.received_ms)
        await self._find_delayed()
        await self._find_again()
        await self._find_parked()
        await self._find_held_back()
        await self._find_dead()
        self._find_ends()
        if not self.places and not self.attempts:
            await self._find_owner()

    async def _find_delayed(self) -> None:
        one = self.subject
        handlers = {"", *(attempt.handler for attempt in self.attempts)}
        for worker in self.workers.values():
            handlers |= worker.handlers.keys()
        due = await self.look.due(self.group, one.partition, one.token, sorted(handlers))
        for handler, due_ms in due.items():
            failed = self._failures_of(handler)
            self.places.append(
                Place(
                    state="delayed",
                    handler=handler,
                    until=moment(due_ms),
                    attempts=len(failed),
                    reason=failed[-1].reason if failed else "",
                )
            )

    async def _find_again(self) -> None:
        one = self.subject
        found = await self.look.in_again(self.group, one.partition, one.token)
        for entry_id, fields in found.entries:
            progress = Progress.from_fields(fields, entry_id)
            holder = await self.look.holder(self.group, one.partition, entry_id, again=True)
            since_ms = _parts(entry_id)[0]
            if holder is None:
                self.places.append(
                    Place(
                        state="again",
                        handler=progress.handler,
                        entry=one.entry(entry_id),
                        since=moment(since_ms),
                        attempts=progress.attempts,
                    )
                )
            else:
                self._held(holder.worker, holder.deliveries, entry_id, since_ms, progress)
        if not found.is_all:
            self.notes.append(
                f"of what the group takes again, only {found.looked_at:,} entries were looked at"
            )

    async def _find_parked(self) -> None:
        one = self.subject
        if one.fields is None:
            if not self.places:
                self.notes.append(TRIMMED)
            return
        key = one.fields.get(b"key")
        if not key:
            return
        line = one.fields.get(b"source", b"") + b":" + key
        parked = await self.look.parked(self.group, one.partition, line, one.token)
        if parked.position is not None:
            head = await self.look.entry(one.partition, parked.head) if parked.head else None
            self.places.append(
                Place(
                    state="parked",
                    since=moment(one.received_ms),
                    behind=one.entry(parked.head) if parked.head else "",
                    behind_id=(head or {}).get(b"id", b"").decode("utf-8", "replace"),
                    position=parked.position,
                )
            )
        elif not parked.is_all:
            self.notes.append(
                f"of the {parked.length:,} messages that are parked for its key, "
                "not all were looked at"
            )

    async def _find_held_back(self) -> None:
        one = self.subject
        found, is_all = await self.look.held_back(self.group, one.partition, one.token)
        for pause, handler in found:
            self.places.append(Place(state="paused", handler=handler, reason=pause))
        if not is_all:
            self.notes.append("of what pauses hold back, not all was looked at")

    async def _find_dead(self) -> None:
        """Find its dead letters: those that the history names, else by a bounded look."""
        one = self.subject
        found: dict[str, Fields] = {}
        for dead_id in dict.fromkeys(attempt.dead_id for attempt in self.attempts):
            fields = dead_id and await self.look.dead_letter(self.group, one.partition, dead_id)
            if fields:
                found[dead_id] = fields
        if not found and not self._is_explained():
            looked = await self.look.in_dead(self.group, one.partition, one.token)
            found = dict(looked.entries)
            if not looked.is_all:
                self.notes.append(f"of the dead letters, only {looked.looked_at:,} were looked at")
        for dead_id, fields in found.items():
            progress = Progress.from_fields(fields, dead_id)
            self.places.append(
                Place(
                    state="dead",
                    handler=progress.handler,
                    entry=one.entry(dead_id),
                    since=moment(_parts(dead_id)[0]),
                    attempts=progress.attempts,
                    reason=fields.get(b"reason", b"").decode("utf-8", "replace"),
                )
            )

    def _is_explained(self) -> bool:
        """Return whether it is known where the message is, without a look at the dead letters."""
        if self.places:
            return True
        return any(attempt.kind in _ENDS for attempt in self.attempts if not attempt.is_late)

    def _find_ends(self) -> None:
        """Add for which handlers the message is finished, as the history tells it."""
        unfinished = {place.handler for place in self.places}
        ends: dict[str, Attempt] = {}
        for attempt in self.attempts:
            if attempt.kind in _ENDS and not attempt.is_late:
                ends[attempt.handler] = attempt
        for handler, attempt in ends.items():
            if handler in unfinished:
                continue  # it runs again, because somebody replayed it
            self.places.append(
                Place(
                    state=_ENDS[attempt.kind],
                    handler=handler,
                    worker=attempt.worker,
                    since=moment(_ended_ms(attempt)),
                    attempts=attempt.attempt,
                    reason=attempt.reason,
                )
            )

    async def _find_owner(self) -> None:
        """Find the entry that owns the message's ID, where this one is a duplicate."""
        one = self.subject
        owners = await self.look.owners(self.group, [one.digest]) if one.digest else []
        tokens = [owner.token for owner in owners if owner.partition == one.partition]
        if tokens and one.token not in tokens:
            self.places.append(
                Place(state="duplicate", entry=one.entry(one.token), behind=one.entry(tokens[0]))
            )

    def _held(
        self,
        worker: str,
        deliveries: int,
        entry_id: str,
        since_ms: int,
        progress: Progress | None = None,
    ) -> None:
        """Add that a worker holds an entry. Redis forgets with each renewal when it was given out;
        a heartbeat says for how long the worker has held its oldest message.
        """
        heartbeat = self.workers.get(worker)
        if heartbeat is not None and heartbeat.oldest_held is not None:
            held_ms = int(heartbeat.oldest_held * 1000) + heartbeat.age_ms
            since_ms = max(since_ms, self.now_ms - held_ms)
        self.places.append(
            Place(
                state="held",
                handler=progress.handler if progress else "",
                entry=self.subject.entry(entry_id),
                worker=worker,
                since=moment(since_ms),
                attempts=progress.attempts if progress else 0,
                deliveries=deliveries,
            )
        )

    def _failures_of(self, handler: str) -> Sequence[Attempt]:
        return [
            one
            for one in self.attempts
            if one.handler == handler and one.kind in {"retry", "waiting"} and not one.is_late
        ]

    def _tried(self, one: Attempt) -> Tried:
        next_ms = 0 if one.after is None else _ended_ms(one) + int(one.after * 1000)
        return Tried(
            outcome=one.kind,
            handler=one.handler,
            attempt=one.attempt,
            worker=one.worker,
            began_at=moment(one.began_ms),
            seconds=one.seconds,
            settled_at=moment(one.written_ms),
            next_at=moment(next_ms),
            reason=one.reason,
            error=one.error,
            is_late=one.is_late,
            may_be_late=one.may_be_late,
            dead_letter=self.subject.entry(one.dead_id) if one.dead_id else "",
            duplicate=self.subject.entry(one.duplicate) if one.duplicate else "",
        )


async def group_stories(
    client: Client, groups: Iterable[str], subject: Subject
) -> tuple[GroupStory, ...]:
    """Return each group's part of a message's story."""
    return tuple([await _Teller(client, group, subject).tell() for group in groups])


async def states(client: Client, group: str, subject: Subject, most: int) -> tuple[str, ...]:
    """Return in which states a message is in a group; "unknown" where what was not looked at, of
    streams and lists with more than `most` entries, could have it.
    """
    told = await _Teller(client, group, subject, most).tell()
    found = tuple(dict.fromkeys(place.state for place in told.places))
    is_sure = found != ("finished",) or set(told.notes) <= {DROPPED, NO_RECORD}
    return found if is_sure else ("unknown",)


def _ended_ms(one: Attempt) -> int:
    return one.written_ms or one.began_ms + int(one.seconds * 1000)


def _parts(entry_id: str) -> tuple[int, int]:
    """Return an entry ID's milliseconds and sequence number. IDs of Redis always have both."""
    ms, _, sequence = entry_id.partition("-")
    return (int(ms), int(sequence)) if ms.isdecimal() and sequence.isdecimal() else (0, 0)
