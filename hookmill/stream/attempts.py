"""How attempts are written into a group's history, and read from it. No I/O.

Most attempts succeed. Those of one settlement are packed together: a column for each fact, and the
owner tokens behind them, by which they are found. What failed is written singly, with its error.
`scripts/history.lua` tells where both are kept.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from hookmill.printable import encodable
from hookmill.stream.entries import AGAIN, STREAM, Ended, Kind, Settlement, Told

CHUNK_BITS = 11
"""Messages of about two seconds (2,048 ms), by their owner tokens, are one chunk of a history."""

MOST_ERROR_BYTES = 64 * 1024
"""The bytes of an error that are kept: the last ones."""

MOST_REASON = 300
"""The characters of a reason that are kept."""

LATE_MARK = b"~"
"""Stands before the owner token of an attempt whose outcome came too late."""

NOTE = 2
"""In the place of "too late": what follows is no attempt, but a note that a script has made."""

SINGLE: frozenset[Kind] = frozenset(("retry", "waiting", "dead"))
"""What is written singly, because it has an error or there will be more to say."""

Words = list[str | bytes | int]
"""Arguments of a script."""

_TOKEN = re.compile("[0-9]{1,15}-[0-9]{1,10}")


class HistoryBounds(NamedTuple):
    """What a group's history may have in one partition: messages (0: none is kept) and bytes."""

    messages: int = 0
    bytes: int = 0

    def shared_by(self, partitions: int) -> HistoryBounds:
        """Return the share of each partition."""
        return HistoryBounds(-(-self.messages // partitions), -(-self.bytes // partitions))


NO_HISTORY = HistoryBounds()


class Attempt(msgspec.Struct, frozen=True):
    """An attempt as the history has it. Times are Unix milliseconds: `began_ms` by its worker's
    clock, `written_ms` (0: not known) by Redis'. `is_late`: another worker had the message by then,
    so this outcome counted for nothing; `may_be_late`: some that were written with it were late.
    `dead_id` is the dead letter that was made, `duplicate` the entry that was dropped.
    """

    kind: Kind
    worker: str = ""
    handler: str = ""
    attempt: int = 0
    began_ms: int = 0
    seconds: float = 0.0
    reason: str = ""
    error: str = ""
    after: float | None = None
    written_ms: int = 0
    is_late: bool = False
    may_be_late: bool = False
    dead_id: str = ""
    duplicate: str = ""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """The facts of a batch. `outcomes` are the kinds, handlers and reasons that occur. `which` says
    by their positions which one each attempt has, `attempts` how many had failed before it. Both
    are empty where there is one outcome, and all are first attempts. `began` counts from `zero`, a
    Unix time.
    """

    worker: str
    zero: float
    outcomes: list[tuple[Kind, str, str]]
    began: bytes
    seconds: bytes
    which: bytes = b""
    attempts: bytes = b""


class _Single(msgspec.Struct, frozen=True, array_like=True):
    """The facts of an attempt that is written singly; its error stands behind them."""

    kind: Kind
    worker: str
    handler: str
    attempt: int
    began_ms: int
    seconds: float
    reason: str
    after: float


_ended_of, _outcome_of = attrgetter("ended"), attrgetter("outcome")
_began_of, _seconds_of = attrgetter("began"), attrgetter("seconds")
_attempts_of, _id_of = attrgetter("progress.attempts"), attrgetter("ref.id")
_pack = msgspec.msgpack.Encoder().encode
_head_of = msgspec.msgpack.Decoder(_Head).decode
_single_of = msgspec.msgpack.Decoder(_Single).decode

_BEFORE_BATCH = struct.Struct(">BHI")
"""Before a batch: whether outcomes of it came too late, which the script writes, the number of its
attempts, and the bytes of the head.
"""

_BEFORE_SINGLE = struct.Struct(">B6sBH")
"""The same before a single one: whether it came too late, when it was written, and the bytes of the
dead letter's ID and of the head.
"""


def chunk_of(token: str) -> int:
    """Return the chunk of an owner token. Raises `ValueError` for one that is no entry ID."""
    return int(token.partition("-")[0]) >> CHUNK_BITS


def kept_of_done(worker: str, key_number: int, some: Sequence[Settlement]) -> Words:
    """Return what the history keeps of successes: batches, one for each chunk."""
    # By `map`, because a loop of Python's own would take several times as long.
    ended: list[Ended] = [*map(_ended_of, some)]
    if None in ended or key_number == AGAIN:
        some = [one for one in some if _token_of(one)]
        ended = [*map(_ended_of, some)]
    if not ended:
        return [0]
    own = key_number == STREAM  # these are their own owners
    tokens: list[str] = [*map(_id_of if own else _token_of, some)]
    first, last = chunk_of(min(tokens)), chunk_of(max(tokens))  # in their order as texts
    if first == last:  # the usual case
        return [1, first, len(tokens), packed(worker, ended, tokens)]
    parts: dict[int, list[int]] = {}
    for position, token in enumerate(tokens):
        parts.setdefault(chunk_of(token), []).append(position)
    words: Words = [len(parts)]
    for chunk, part in parts.items():
        of_part = [ended[position] for position in part], [tokens[position] for position in part]
        words += (chunk, len(part), packed(worker, *of_part))
    return words


def kept_of_others(worker: str, others: list[Settlement], args: Words) -> list[Words]:
    """Return for each of the other entries the words that say what the history keeps of it. Add
    their batches to the arguments.
    """
    if not others:
        return []
    notes: list[Words] = []
    batches: dict[int, tuple[int, list[Ended], list[str]]] = {}
    for one in others:
        if one.ended is None or not _token_of(one):
            notes.append([0, "", ""])
            continue
        told = one.ended.outcome.told()
        if told.kind in SINGLE:
            notes.append([0, *single(worker, one.ended, told)])
        else:
            token = _token_of(one)
            new: tuple[int, list[Ended], list[str]] = len(batches) + 1, [], []
            number, ended, tokens = batches.setdefault(chunk_of(token), new)
            ended.append(one.ended)
            tokens.append(token)
            notes.append([number])
    args.append(len(batches))
    for chunk, (_, ended, tokens) in batches.items():
        args += (chunk, len(ended), packed(worker, ended, tokens))
    return notes


def _token_of(one: Settlement) -> str:
    """Return the owner token; "" where it is no entry ID, as ours are, or there is no attempt."""
    token = "" if one.ended is None else one.ended.progress.owner
    return token if _TOKEN.fullmatch(token) else ""


def packed(worker: str, ended: Sequence[Ended], tokens: Sequence[str]) -> bytes:
    """Return a batch of attempts; `tokens` are their owners."""
    count, outcomes = len(ended), [*map(_outcome_of, ended)]
    several, attempts = list(dict.fromkeys(outcomes)), [*map(_attempts_of, ended)]
    head = _Head(
        worker,
        time.time() - time.perf_counter(),
        [_outcome(one.told()) for one in several],
        struct.pack(f"<{count}d", *map(_began_of, ended)),
        struct.pack(f"<{count}f", *map(_seconds_of, ended)),
    )
    if len(several) > 1 or any(attempts):
        numbers = {outcome: number for number, outcome in enumerate(several)}
        head = msgspec.structs.replace(
            head,
            which=struct.pack(f"<{count}H", *map(numbers.__getitem__, outcomes)),
            attempts=struct.pack(f"<{count}H", *[min(number, 0xFFFF) for number in attempts]),
        )
    raw = _pack(head)
    return b"%b%b %b " % (_BEFORE_BATCH.pack(0, count, len(raw)), raw, " ".join(tokens).encode())


def _outcome(told: Told) -> tuple[Kind, str, str]:
    return told.kind, encodable(told.handler[:MOST_REASON]), encodable(told.reason[:MOST_REASON])


def single(worker: str, ended: Ended, told: Told) -> tuple[bytes, bytes]:
    """Return the head of an attempt that is written singly, and its error."""
    began_ms = int((time.time() - time.perf_counter() + ended.began) * 1000)
    kind, handler, reason = _outcome(told)
    head = _Single(
        *(kind, worker, handler, ended.progress.attempts + 1),
        *(began_ms, ended.seconds, reason, told.after),
    )
    error = told.error.encode("utf-8", "backslashreplace")
    return _pack(head), error[-MOST_ERROR_BYTES:]


def attempts_in(blob: bytes, token: str) -> list[Attempt]:
    """Return the attempts in a packed batch that are of this owner token. What cannot be read (a
    later release wrote it) is left out.
    """
    try:
        return list(_unpacked(blob, token.encode()))
    except (struct.error, msgspec.MsgspecError, IndexError):
        return []


def _unpacked(blob: bytes, token: bytes) -> Iterator[Attempt]:
    some_late, _, size = _BEFORE_BATCH.unpack_from(blob)
    start = _BEFORE_BATCH.size
    head = _head_of(blob[start : start + size])
    for position, owner in enumerate(blob[start + size :].split()):
        if owner.removeprefix(LATE_MARK) != token:
            continue
        number = _short(head.which, position)
        kind, handler, reason = head.outcomes[number]
        (began,) = struct.unpack_from("<d", head.began, 8 * position)
        (seconds,) = struct.unpack_from("<f", head.seconds, 4 * position)
        yield Attempt(
            kind,
            head.worker,
            handler,
            _short(head.attempts, position) + 1,
            int((head.zero + began) * 1000),
            round(seconds, 6),
            reason,
            is_late=owner.startswith(LATE_MARK),
            may_be_late=some_late == 1,
        )


def attempt_in(item: bytes) -> Attempt | None:
    """Return what is written singly; None where it cannot be read."""
    try:
        state, written_ms, dead_size, head_size = _BEFORE_SINGLE.unpack_from(item)
        at_ms = int.from_bytes(written_ms, "big")
        start = _BEFORE_SINGLE.size
        dead_id = item[start : start + dead_size].decode()
        start += dead_size
        if state == NOTE:
            kind, _, text = (
                item[start : start + head_size].decode("utf-8", "replace").partition(" ")
            )
            return _noted(kind, text, at_ms, dead_id)
        head = _single_of(item[start : start + head_size])
    except (struct.error, msgspec.MsgspecError, ValueError):
        return None
    return Attempt(
        head.kind,
        head.worker,
        head.handler,
        head.attempt,
        head.began_ms,
        round(head.seconds, 6),
        head.reason,
        item[start + head_size :].decode("utf-8", "replace"),
        head.after if head.kind != "dead" else None,
        at_ms,
        is_late=state == 1,
        dead_id=dead_id,
    )


def _noted(kind: str, text: str, written_ms: int, dead_id: str) -> Attempt | None:
    if kind == "duplicate":
        return Attempt("duplicate", duplicate=text, written_ms=written_ms)
    if kind == "undeliverable":
        return Attempt("undeliverable", error=text, written_ms=written_ms, dead_id=dead_id)
    return None


def _short(column: bytes, position: int) -> int:
    return struct.unpack_from("<H", column, 2 * position)[0] if column else 0
