"""Checks the URL of Redis: whatever the Redis client could not use is a fault of the setting.

The client itself fails late, and often with errors that are none of its own. No I/O.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from hookmill.stream.topology import ServerList, server_list_of

_USAGE = (
    "give redis://HOST:PORT/NUMBER, rediss:// for TLS, unix://PATH, for a Redis Cluster "
    "redis+cluster://HOST:PORT,HOST:PORT, for sentinels redis+sentinel://HOST:PORT,HOST:PORT/NAME; "
    "special characters in a password are written as %XX"
)

_SCHEMES = {
    *("redis", "rediss", "unix"),
    *(f"{scheme}+{kind}" for scheme in ("redis", "rediss") for kind in ("cluster", "sentinel")),
}

_CONTROL = re.compile("[\x00-\x1f\x7f]")

_Check = Callable[[str], object]


def _whole(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None


def _positive(text: str) -> bool:
    return _whole(text) and int(text) > 0


def _seconds(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is not None


def _any(text: str) -> bool:
    return bool(text)


def _one_of(*words: str) -> _Check:
    return lambda text: text.lower() in words


def _flags(text: str) -> bool:
    words = text.replace("[", "").replace("]", "").split(",")
    return all(word.strip() in ssl.VerifyFlags.__members__ for word in words)


_SWITCH = _one_of("0", "1", "f", "false", "n", "no", "t", "true", "y", "yes")

_OPTIONS: dict[str, _Check] = {
    "client_name": re.compile("[!-~]+").fullmatch,
    "db": _whole,
    "health_check_interval": _whole,
    "max_connections": _positive,
    "password": _any,
    "protocol": _one_of("2", "3"),
    "retry_on_timeout": _SWITCH,
    "socket_connect_timeout": _seconds,
    "socket_read_size": _positive,
    "socket_timeout": _seconds,
    "username": _any,
}

_TCP_OPTIONS: dict[str, _Check] = {"socket_keepalive": _SWITCH}

_TLS_OPTIONS: dict[str, _Check] = {
    "ssl_ca_certs": _any,
    "ssl_ca_data": _any,
    "ssl_ca_path": _any,
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_certfile": _any,
    "ssl_check_hostname": _SWITCH,
    "ssl_ciphers": _any,
    "ssl_exclude_verify_flags": _flags,
    "ssl_include_verify_flags": _flags,
    "ssl_keyfile": _any,
    "ssl_min_version": _one_of("769", "770", "771", "772"),
    "ssl_password": _any,
}


def check_redis_url(url: str) -> str:
    """Return the URL of a Redis server, or of a cluster. Raises `ValueError`, whose text shows no
    value of the URL, because it may hold a password.
    """
    try:
        usable = _is_of_known_kind(url) and _names_servers(server_list_of(url))
    except ValueError:  # its text could show a part of the password
        usable = False
    if not usable:
        raise ValueError(_USAGE)
    listed = server_list_of(url)
    parts = urlsplit(listed.server)
    if listed.kind == "cluster" and (parts.path.strip("/") or "db" in parse_qs(parts.query)):
        raise ValueError("a Redis Cluster has no numbered databases: leave the number away")
    checks = _OPTIONS
    if parts.scheme != "unix":
        checks = checks | _TCP_OPTIONS
    if parts.scheme == "rediss":
        checks = checks | _TLS_OPTIONS
    for name, values in parse_qs(parts.query).items():
        check = checks.get(name)
        if check is None:
            if name in _TLS_OPTIONS:
                raise ValueError(f"its option {name} is for rediss:// only")
            raise ValueError(f"it has an unknown option behind the ?: use {', '.join(checks)}")
        if not check(values[0]):
            raise ValueError(f"its option {name} has a value that is not possible")
    return url


def _is_of_known_kind(url: str) -> bool:
    return urlsplit(url).scheme in _SCHEMES


def _names_servers(listed: ServerList) -> bool:
    named = bool(listed.name) or listed.kind != "sentinel"
    return named and all(
        _names_a_server(each, urlsplit(each)) for each in (*listed.urls, listed.server)
    )


def _names_a_server(url: str, parts: SplitResult) -> bool:
    """Return whether a URL leads to a server. Raises `ValueError` where it cannot be read."""
    texts = [parts.username, parts.password, parts.hostname, parts.path, parts.query]
    for text in texts:
        # Bytes that are not UTF-8 would become other characters, so that the login would fail.
        unquote(text or "", errors="strict").encode()
    host, path = unquote(parts.hostname or ""), unquote(parts.path)
    if _CONTROL.search(url + host + path):
        return False
    if parts.scheme == "unix":
        return bool(path)
    if ":" not in host:  # an IPv6 address is no name
        host.encode("idna")
    return parts.scheme in {"redis", "rediss"} and bool(host) and parts.port != 0
