"""Limits the memory of a program that a test starts, with what this machine has for it.

In a memory control group, a program that needs more is killed. Where no group can be made, the
program gets a limit of its data (`ulimit -d`), and an allocation beyond it fails.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


class MemoryLimit:
    """A limit in bytes. `command` is what starts a program within it."""

    def __init__(self, count: int) -> None:
        self._group = _new_group(count)
        self.kind = "control group" if self._group else "limit of data"
        if self._group:
            enter = f"echo $$ > {self._group / 'cgroup.procs'}"
        else:
            enter = f"ulimit -d {count // 1024}"
        self.command = ("/bin/sh", "-c", f'{enter} && exec "$@"', "sh")

    def close(self) -> None:
        """Remove the group. Its programs have to be dead."""
        if self._group:
            self._group.rmdir()


def _new_group(count: int) -> Path | None:
    """Return a new memory control group of version 1 or 2; None if none can be made."""
    for parent, limit in (
        (GROUPS / "memory", "memory.limit_in_bytes"),
        (GROUPS, "memory.max"),
    ):
        group = parent / f"hookmill-{secrets.token_hex(4)}"
        with suppress(OSError):
            group.mkdir()
            if (group / limit).exists():
                (group / limit).write_text(str(count))
                return group
            group.rmdir()
    return None
