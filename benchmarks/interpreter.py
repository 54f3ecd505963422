"""Which Python interpreter runs the programs, because its build changes every figure.

A build with PGO (profile-guided optimization) needs a tenth less CPU time than one without.
"""

from __future__ import annotations

import platform
import shlex
import sys
import sysconfig


def described() -> str:
    """Return the implementation, its version, its compiler, and how it was built."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return f"{name}, {platform.python_compiler()}, {optimized(arguments, sys.base_prefix)}"


def optimized(arguments: str, prefix: str) -> str:
    """Say whether an interpreter was built with PGO and LTO, from the arguments of `configure`.

    An interpreter under /usr is the distribution's. Debian and Ubuntu build theirs with both, and
    do not record it, so an argument that is missing there says nothing.
    """
    given = shlex.split(arguments)
    pgo = "--enable-optimizations" in given
    lto = any(one.startswith("--with-lto") and not one.endswith("=no") for one in given)
    if pgo:
        return "with PGO and LTO" if lto else "with PGO"
    if prefix == "/usr":
        return "built by the distribution, which does not record whether with PGO"
    return "with LTO, without PGO" if lto else "without PGO"


def identity() -> str:
    """Return what tells this interpreter from another one that is installed here."""
    return f"{sys.base_prefix} {sys.version}"
