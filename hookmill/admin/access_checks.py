"""Judges how programs reach Redis, by its URL: with TLS, with a password. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from hookmill.admin.findings import Finding
from hookmill.config.hosts import is_loopback
from hookmill.errors import see
from hookmill.stream.topology import server_list_of

_GUIDE = see("how-to/limit-redis-rights.md")


def judge_access(url: str) -> Iterator[Finding]:
    """Judge a Redis URL. A server on this machine is not judged: nobody is on the way to it."""
    parts = urlsplit(server_list_of(url).server)
    if parts.scheme == "unix" or _is_this_machine(parts.hostname or ""):
        return
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme != "rediss":
        yield Finding(
            level="warning",
            what="Redis is on another machine and is used without TLS",
            why="whoever is on the way can read bodies and passwords, and add messages",
            do=f"use rediss://, or a network that nobody else can enter; {_GUIDE}",
        )
    elif not _checks_certificate(options):
        yield Finding(
            level="warning",
            what="the certificate of Redis is not checked",
            why="whoever is on the way can be the server, and read and add messages",
            do=f"remove ssl_cert_reqs and ssl_check_hostname from the URL; {_GUIDE}",
        )
    has_certificate = parts.scheme == "rediss" and "ssl_certfile" in options
    if not (parts.password or options.get("password") or has_certificate):
        yield Finding(
            level="warning",
            what="Redis is on another machine and is used without a password",
            why="whoever reaches it can read every message, and run handlers by adding one",
            do=f"give each program a user of its own, with a password; {_GUIDE}",
        )


def _is_this_machine(host: str) -> bool:
    return is_loopback(host) or host.endswith(".localhost")


def _checks_certificate(options: dict[str, str]) -> bool:
    is_off = options.get("ssl_check_hostname", "").upper() in {"0", "F", "FALSE", "N", "NO"}
    return options.get("ssl_cert_reqs", "required") == "required" and not is_off
