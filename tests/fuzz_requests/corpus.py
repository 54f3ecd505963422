"""What was found once: requests that cost or broke something. Each run sends them first.

`corpus.json` holds them in short: a body is `before`, then `unit` so many times that it has `size`
bytes, then `after`. All are unsigned, so the receiver has to refuse them. The paths are those of
the run's senders, and of the sources here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz_requests.model import Ask, Expect

OWN_SOURCES = {
    "form": 'signature = "form:sig"\ncontent = "{form:a}"\nunsigned_body = true',
    "json-list": (
        'signature = "json:sig"\nsplit = ","\npair = "="\nitem = "v1"\ncontent = "{json:a}"\n'
        "unsigned_body = true"
    ),
    "json-array": 'signature = "json:sig.0"\ncontent = "{json:a.b.c}"\nunsigned_body = true',
}
"""Sources whose scheme reads the body before it has verified, as words of hookmill.toml."""


def kept() -> Iterator[tuple[str, bytes]]:
    """Return the names of the kept requests, and their bytes."""
    for name, one in json.loads(Path(__file__).with_name("corpus.json").read_text()).items():
        before, unit, after = (one[part].encode("latin-1") for part in ("before", "unit", "after"))
        count = max(0, one["size"] - len(before) - len(after)) // len(unit)
        headers = tuple((key.encode(), value.encode()) for key, value in one["headers"].items())
        body = before + unit * count + after
        yield name, Ask("POST", one["target"], headers, body, Expect.REFUSED).wire()
