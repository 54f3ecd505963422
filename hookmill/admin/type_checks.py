"""Judges whether event types are signed: one that is not can be changed on the way. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hookmill.admin import describe
from hookmill.admin.findings import Finding
from hookmill.admin.source_checks import SourceFacts


def judge_types(sources: Iterable[SourceFacts]) -> Iterator[Finding]:
    """Name the sources where somebody who captures a delivery can send it as another event type."""
    for source in sources:
        spec = source.spec
        # Where the body is not signed, all of it can be changed, and another finding says so.
        if spec is None or not spec.covers_body:
            continue
        unsigned = [template for template in spec.type if not spec.is_signed(template)]
        if not unsigned:
            continue
        is_first = unsigned[0] == spec.type[0]
        closed = (
            "a copy of a stored delivery is a duplicate, because the body is its ID; one that was "
            "not stored can be sent"
            if source.is_named_after_body
            else "anyone who captures a delivery can send it"
        )
        yield Finding(
            level="note",
            what=f"types of {source.name} come from what is not signed"
            + ("" if is_first else ", if the signed places have none"),
            why=f"{closed} as another type ({describe.template(unsigned[0])}): the handler of that "
            "type then runs with a body that was made for another one",
            do="have each handler check in the body, which is signed, that it is what the handler "
            "expects",
        )
