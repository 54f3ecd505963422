"""The dead letters: the list with its filters, one of them whole, and actions on what matches.

An action first counts what it means. What is confirmed is exactly that: what dies later does not
belong to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, NamedTuple

from hookmill.admin import dead_groups, dead_letters, redactions
from hookmill.admin.bodies import laid_out
from hookmill.admin.dead_groups import GroupsSoFar
from hookmill.admin.dead_letters import SelectedDeadLetters
from hookmill.admin.filters import DeadLetterFilter, Selection
from hookmill.admin.fingerprints import is_fingerprint
from hookmill.admin.units import count
from hookmill.console.console import Console, acting, need_operator
from hookmill.console.filters import moment_of, where_of
from hookmill.console.jobs import Job, rate_of
from hookmill.console.pages import Moved, PageRefusedError, Request, Shown, written
from hookmill.error_text import last_line
from hookmill.stream.dead_letters import LARGEST_PAGE
from hookmill.stream.facts import GroupFacts

PAGE = 50
"""Dead letters on a page."""

FILTERS = ("source", "type", "handler", "reason", "key", "error", "where", "after", "before")

MAX_IDS = 1000

Action = Literal["replay", "drop"]
_DOING: dict[Action, tuple[str, str]] = {
    "replay": ("Replay", "replayed"),
    "drop": ("Drop", "dropped"),
}


class Plan(NamedTuple):
    """What a person is asked to confirm."""

    action: Action
    group: str
    selection: Selection
    selected: SelectedDeadLetters
    takes_rate: bool = False

    @property
    def verb(self) -> str:
        """What is done, as a button says it."""
        return _DOING[self.action][0]

    @property
    def warning(self) -> str:
        """What this does to them."""
        if self.action == "drop":
            return "They are deleted for good."
        return "They run again with a fresh count of attempts."

    def begin(self, console: Console, request: Request, counted: Job) -> Job:
        """Do what was counted."""
        rate = rate_of(request)
        verb, done = _DOING[self.action]
        tallies = self.selected.replay(rate) if self.action == "replay" else self.selected.drop()
        about = {"group": self.group, "selection": self.selection, "rate": rate}

        async def act(job: Job) -> AsyncIterator[None]:
            async with acting(console, request, f"dead {self.action}", about) as action:
                async for tally in tallies:
                    job.step(tally.tried, f"{tally.done:,} {done}")
                    action.result(**{done: tally.done, "of": tally.tried})
                    console.watch.forget()
                    yield
                    if job.is_cancelled:
                        action.result(cancelled=True)
                        break

        told = count(counted.total or 0, "dead letter", "dead letters")
        job = Job(f"{verb} {told} of group {self.group}", counted.back, counted.total)
        return console.jobs.start(job, act)


async def dead(console: Console, request: Request) -> Shown:
    """Show the dead letters that match."""
    group, groups = await console.group_of(request)
    given = _given(request.query)
    wanted = await _wanted(console, given)
    cursor, found = request.query.get("before_id", ""), None
    if group is not None:
        letters = await console.backend.dead_letters(group.name)
        found = await dead_letters.page(letters, wanted, cursor=cursor, count=PAGE)
    more = {"before_id": found.cursor} if found is not None and found.cursor else {}
    looked_at = found.looked_at if found else 0
    values = {
        "group": group,
        "groups": groups,
        "given": given,
        "rows": [_row(dead_letters.describe(one)) for one in (found.rows if found else ())],
        "looked_at": looked_at,
        "more": written(_query(group, given) | more) if more else "",
        "is_first": not cursor,
        "query": written(_query(group, given)),
    }
    return Shown("dead.html", values, "" if cursor else _live(looked_at))


async def errors(console: Console, request: Request) -> Shown:
    """Show of which errors messages died: of the newest dead letters that match."""
    group, groups = await console.group_of(request)
    given = _given(request.query)
    so_far = GroupsSoFar([], is_complete=True)
    if group is not None:
        letters = await console.backend.dead_letters(group.name)
        async for step in dead_groups.groups(letters, await _wanted(console, given)):
            so_far = step
    rows = [
        dead_groups.describe_group(one)
        | {"query": written(_query(group, given) | {"error": one.fingerprint})}
        for one in sorted(so_far.groups, key=lambda one: -one.count)
    ]
    values = {
        "group": group, "groups": groups, "rows": rows, "so_far": so_far,
        "query": written(_query(group, given)),
    }  # fmt: skip
    return Shown("dead_errors.html", values, _live(so_far.looked_at))


async def one(console: Console, request: Request) -> Shown:
    """Show one dead letter whole."""
    group, _ = await console.group_of(request)
    if group is None:
        raise PageRefusedError(404, "there is no group")
    letters = await console.backend.dead_letters(group.name)
    letter = await dead_letters.find(letters, request.named["id"], group=group.name)
    showable = await redactions.shown_by(letters.client, console.backend.settings)
    seen = dead_letters.describe(letter, whole=True, shown=showable)
    body = laid_out(seen.get("body", ""))
    return Shown("dead_letter.html", {"group": group, "seen": seen, "body": body})


async def plan(console: Console, request: Request) -> Moved:
    """Count what an action would be about; the page of that job asks to confirm it."""
    need_operator(request)
    group, _ = await console.group_of(request)
    action = _action(request)
    given = _given({name: request.field(name) for name in FILTERS})
    ids = tuple(request.form.get("id", ())) if request.field("scope") != "matching" else None
    if ids is not None and not 0 < len(ids) <= MAX_IDS:
        raise PageRefusedError(400, "choose dead letters first, or all that match")
    if group is None:
        raise PageRefusedError(404, "there is no group")
    letters = await console.backend.dead_letters(group.name)
    selection = Selection(ids=ids, filter=await _wanted(console, given))
    selected = await dead_letters.select(letters, selection)
    title = f"{_DOING[action][0]}: counting what is meant"
    meant = Plan(action, group.name, selection, selected, takes_rate=action == "replay")
    job = Job(title, f"/dead{written(_query(group, given))}", None, meant)

    async def counting(job: Job) -> AsyncIterator[None]:
        job.total = 0
        async for tally in selected.counting():
            job.total = tally.tried
            job.told = count(job.total, "dead letter", "dead letters")
            yield
            if job.is_cancelled:
                return

    return Moved(f"/jobs/{console.jobs.start(job, counting).id}")


def _live(looked_at: int) -> str:
    """Return what makes browsers load the page again: nothing, where many dead letters were looked
    at for it. While messages die, each browser would have Redis do that again every two seconds.
    """
    return "dead" if looked_at <= LARGEST_PAGE else ""


def _action(request: Request) -> Action:
    match request.field("action"):
        case "replay":
            return "replay"
        case "drop":
            return "drop"
    raise PageRefusedError(400, "there is no such action")


def _given(query: Mapping[str, str]) -> dict[str, str]:
    return {name: query.get(name, "").strip() for name in FILTERS}


def _query(group: GroupFacts | None, given: Mapping[str, str]) -> dict[str, str]:
    query = {"group": "" if group is None else group.name, **given}
    return {name: value for name, value in query.items() if value}


async def _wanted(console: Console, given: Mapping[str, str]) -> DeadLetterFilter:
    """Read the filters. Raises `SearchRefusedError` where one asks for what is redacted."""
    wanted = _filter(given)
    if wanted.where:
        showable = await redactions.shown_by(await console.backend.client(), console.settings)
        showable.check_where(wanted.where, wanted.source)
    return wanted


def _filter(given: Mapping[str, str]) -> DeadLetterFilter:
    return DeadLetterFilter(
        source=given["source"] or None,
        type=given["type"] or None,
        handler=given["handler"] or None,
        reason=given["reason"] or None,
        key=given["key"] or None,
        error=_fingerprint(given["error"]),
        where=where_of(given["where"]),
        after_ms=moment_of(given, "after"),
        before_ms=moment_of(given, "before"),
    )


def _fingerprint(text: str) -> str | None:
    if text and not is_fingerprint(text):
        raise PageRefusedError(400, "error: give a fingerprint, as the page of errors links it")
    return text or None


def _row(seen: dict[str, Any]) -> dict[str, Any]:
    return {**seen, "line": last_line(seen["error"]) or seen.get("unreadable", "")}
