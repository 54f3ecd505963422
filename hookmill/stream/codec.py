"""Writes the arguments of the scripts that take and settle, and reads their replies. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hookmill.message import Fields
from hookmill.stream.attempts import NO_HISTORY, HistoryBounds, Words, kept_of_done, kept_of_others
from hookmill.stream.entries import (
    AGAIN,
    STREAM,
    Duplicate,
    Entry,
    EntryRef,
    Settlement,
    Taken,
    Undeliverable,
    weight_of,
)
from hookmill.stream.keys import GroupKeys
from hookmill.stream.script_runner import Call


def taking_keys(keys: GroupKeys) -> list[str]:
    """Return the keys of the scripts that take, in the order of `taking.lua`."""
    return [keys.stream, keys.again, keys.owners, keys.busy, keys.parked, keys.counts]


def takeover_keys(keys: GroupKeys) -> list[str]:
    """Return the keys of `takeover.lua`, in its order."""
    return [
        *taking_keys(keys),
        *(keys.lease_numbers, keys.watched, keys.deliveries, keys.dead, keys.wake),
    ]


def words_of(refs: Iterable[EntryRef]) -> list[str | int]:
    """Return where entries are in their partition, as arguments of a script."""
    return [word for ref in refs for word in (ref.key_number, ref.id)]


def taken_of(replies: Mapping[int, Any]) -> Taken:
    """Read the replies of the scripts that take. They are given by partition."""
    entries: list[Entry] = []
    duplicates: list[Duplicate] = []
    parked = 0
    for partition, (runs, repeated, waiting, *_) in replies.items():
        for key_number, is_suspect, names, words in runs:
            word = iter(words)
            for entry_id in word:
                ref, weight = EntryRef(key_number, entry_id.decode(), partition), next(word)
                fields: Fields = {}
                for name in names:  # in half the time of `dict(zip(names, word))`
                    fields[name] = next(word)
                entries.append(Entry(ref, fields, is_suspect == 1, weight))
        duplicates += _duplicates_of(partition, repeated)
        parked += waiting
    return Taken(entries, duplicates, parked)


def directly_taken_of(partition: int, read: Any, ended: Any) -> Taken | None:
    """Read the replies of XREADGROUP and of the end of `direct_read.lua`. Return None where an
    entry was read of which the script has not said that it decided about it.
    """
    rows = read[0][1] if read else []
    if not isinstance(ended, list) or not _are_decided(rows, ended[3]):
        return None
    repeated, waiting, held_back, _, _, _, _, left = ended
    held = set(held_back)
    entries: list[Entry] = []
    size = 0
    for entry_id, words in rows:
        word = iter(words)
        fields = dict(zip(word, word, strict=True))
        weight = weight_of(fields)
        size += weight
        if entry_id not in held:
            ref = EntryRef(STREAM, entry_id.decode(), partition)
            entries.append(Entry(ref, fields, weight=weight))
    duplicates = _duplicates_of(partition, repeated)
    return Taken(entries, duplicates, waiting, size, has_more=left == 1)


def _are_decided(rows: Sequence[Any], decided: Sequence[Any]) -> bool:
    """Return whether these are just the entries that were decided about. The IDs of a row of these
    follow one another, so the first, the last and the number tell all.
    """
    at = 0
    for first, last, count in decided:
        if at + count > len(rows) or (rows[at][0], rows[at + count - 1][0]) != (first, last):
            return False
        at += count
    return at == len(rows)


def _duplicates_of(partition: int, repeated: Iterable[Any]) -> list[Duplicate]:
    return [
        Duplicate(
            EntryRef(key_number, entry_id.decode(), partition),
            message_id.decode("utf-8", "replace"),
        )
        for key_number, entry_id, message_id in repeated
    ]


def undeliverable_of(replies: Mapping[int, Any]) -> tuple[Undeliverable, ...]:
    """Read from the replies of `takeover.lua` what has become a dead letter there."""
    return tuple(
        Undeliverable(
            EntryRef(key_number, entry_id.decode(), partition),
            message_id.decode("utf-8", "replace"),
            error.decode(),
        )
        for partition, reply in replies.items()
        for key_number, entry_id, message_id, error in reply[4]
    )


def may_be_left(replies: Mapping[int, Any]) -> bool:
    """Return whether there may be more entries in a partition that replied to `take.lua`."""
    return any(left for *_, left in replies.values())


def settling_calls(
    partitions: Sequence[GroupKeys],
    names: Sequence[str],
    settlements: Iterable[Settlement],
    *,
    whole: bool = False,
    bounds: HistoryBounds = NO_HISTORY,
) -> list[tuple[Call, list[Settlement]]]:
    """Return the calls that settle, one for each partition concerned, each with those of its
    settlements that are more than an acknowledgement. `names` are the group's and the consumer's.
    If `whole`, the fields of the entries go along. `bounds` are those of a partition's history.
    """
    worker = names[1] if bounds.messages else None
    done: defaultdict[tuple[int, int], list[Settlement]] = defaultdict(list)
    rest: defaultdict[int, list[Settlement]] = defaultdict(list)
    for one in settlements:
        ref = one.ref
        if one.follow_ups or one.key:
            rest[ref.partition].append(one)
        else:
            done[ref.partition, ref.key_number].append(one)
    calls = []
    for number in {number for number, _ in done} | rest.keys():
        args: Words = [*names, *bounds]
        for key_number in STREAM, AGAIN:
            some = done[number, key_number]
            kept: Words = []
            if worker is not None:
                kept = kept_of_done(worker, key_number, some)
            args += (len(some), sum([one.weight for one in some]))
            args += [one.ref.id for one in some]
            args += kept
        others = rest[number]
        notes = [[]] * len(others) if worker is None else kept_of_others(worker, others, args)
        for one, note in zip(others, notes, strict=True):
            args += _words_of(one, note, whole=whole)
        calls.append((Call(number, _settling_keys(partitions[number]), args), others))
    return calls


def _words_of(one: Settlement, note: Words, *, whole: bool) -> Words:
    """Return the arguments for a settlement that is more than an acknowledgement. `note` is what
    the history keeps of it.
    """
    words: Words = [one.ref.key_number, one.ref.id, one.weight]
    words += (one.key, one.owner, *note)
    words += (*_strings_of(one.fields if whole else {}), len(one.follow_ups))
    for follow_up in one.follow_ups:
        words += (follow_up.kind, follow_up.delay_ms, follow_up.token)
        words += _strings_of(follow_up.changes)
    return words


def _strings_of(fields: Fields) -> Words:
    """Return the number of the strings that follow, then names and values in turn."""
    strings: Words = [2 * len(fields)]
    for pair in fields.items():
        strings += pair
    return strings


def _settling_keys(keys: GroupKeys) -> list[str]:
    """Return the keys of `settle.lua`, in its order."""
    return [
        *(keys.stream, keys.again, keys.delayed, keys.delayed_entries, keys.dead, keys.suspects),
        *(keys.busy, keys.parked, keys.counts, keys.sooner, keys.due, keys.history, keys.paused),
        keys.wake,
    ]
