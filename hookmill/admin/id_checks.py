"""Judges what the partitions of a stream mean for message IDs. No I/O.

A duplicate is looked for in the partition of its message. An ordering key decides the partition,
else a signed ID, else the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hookmill.admin import describe
from hookmill.admin.findings import Finding
from hookmill.admin.source_checks import SourceFacts
from hookmill.config.source_options import QSTASH


def judge_ids(sources: Iterable[SourceFacts], partitions: int) -> Iterator[Finding]:
    """Name the sources of which an ID that comes twice can lie in two partitions."""
    if partitions == 1:
        return
    sources = list(sources)
    keyed = [source.name for source in sources if source.ordered_by]
    unsigned = [
        source.name for source in sources if not source.ordered_by and _has_unsigned_id(source)
    ]
    for names, other in ((keyed, "another ordering key"), (unsigned, "another body")):
        if names:
            yield Finding(
                level="note",
                what=f"an ID that comes again with {other} may run twice: {', '.join(names)}",
                why=f"there are {partitions} partitions. {other.capitalize()} can lead to another "
                "partition, where nobody knows that the ID came before",
                do="nothing, unless your senders do that: senders repeat a delivery unchanged. "
                "Otherwise use one partition, or handlers that may run twice",
            )


def _has_unsigned_id(source: SourceFacts) -> bool:
    """Whether messages can have an ID that the signature does not cover."""
    if source.is_named_after_body:
        return False
    if source.preset in QSTASH or source.spec is None:
        return source.preset in QSTASH
    return not all(describe.ids_are_signed(source.spec))
