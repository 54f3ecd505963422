"""Reads a request to the admin address: the page that it asks for, or the answer that refuses it.

No I/O. A request has no body, and its `Host` is a name that no stranger can own: otherwise a web
page could have its own name lead to this machine, and read the answers in somebody's browser.
"""

from __future__ import annotations

import ipaddress
import re
from contextvars import ContextVar
from typing import NamedTuple

import msgspec

from hookmill.config.hosts import host_in, is_loopback
from hookmill.printable import encodable, printable_json

TEXT = "text/plain; charset=utf-8"

_REQUEST_LINE = re.compile(r"([A-Za-z]{1,32}) (\S+) HTTP/1\.[01]")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_PRIVATE_NAMES = (".internal", ".cluster.local")
"""Ends of names that are for private networks, so that no stranger can own one."""


ACCEPT: ContextVar[str] = ContextVar("accept", default="")
"""What the request that is being answered accepts. A page that has several formats reads it."""


class Answer(NamedTuple):
    """What a page answers: the HTTP status, the body, and its content type."""

    status: int
    body: bytes
    content_type: str = TEXT


class Asked(NamedTuple):
    """A request that is in order: its path without the query, whether it is a HEAD, and the formats
    that it accepts.
    """

    path: str
    is_head: bool
    accept: str = ""


class PageRefusal(NamedTuple):
    """Why a request gets no page: the HTTP status, a short code, and a sentence."""

    status: int
    code: str
    detail: str

    @property
    def answer(self) -> Answer:
        """The answer that says so, in the form of the receiver's refusals."""
        # It may name a message, and is read in a terminal.
        body = msgspec.json.encode({"error": self.code, "detail": encodable(self.detail)})
        return Answer(self.status, printable_json(body), "application/json")


MALFORMED = PageRefusal(400, "request_malformed", "this is no request in HTTP/1.1")
NOT_FOUND = PageRefusal(404, "not_found", "ask for /healthz, /readyz or /metrics")
SLOW = PageRefusal(408, "slow_request", "the request took too long to arrive")
TOO_LARGE = PageRefusal(431, "request_too_large", "the request has too many headers")

_ONLY_GET = PageRefusal(405, "method_not_allowed", "ask with GET")
_NO_BODY = PageRefusal(413, "too_large", "a request to this address has no body")
_OTHER_HOST = PageRefusal(
    421, "host_unknown", "ask with an IP address, localhost, or a name of a private network as Host"
)


def read_request(head: bytes, listens_on: str) -> Asked | PageRefusal:
    """Judge the head of a request, up to its empty line. `listens_on` is HOOKMILL_ADMIN_HOST."""
    request_line, *rows = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    asked, headers = _REQUEST_LINE.fullmatch(request_line), _headers(rows)
    if asked is None or headers is None:
        return MALFORMED
    method, target = asked.groups()
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) > 1:
        return MALFORMED
    if hosts and not is_private_host(hosts[0], listens_on):
        return _OTHER_HOST
    if method not in {"GET", "HEAD"}:
        return _ONLY_GET
    if any(_announces_body(name, value) for name, value in headers):
        return _NO_BODY
    accept = ",".join(value for name, value in headers if name == "accept")
    return Asked(target.partition("?")[0], method == "HEAD", accept)


def _headers(rows: list[str]) -> list[tuple[str, str]] | None:
    """Return names in small letters, and values. None: a row is no header."""
    headers = []
    for row in rows:
        name, colon, value = row.partition(":")
        if not colon or not _NAME.fullmatch(name) or _CONTROL.search(value):
            return None
        headers.append((name.lower(), value.strip(" \t")))
    return headers


def is_private_host(host: str, listens_on: str) -> bool:
    """Return whether no stranger can own the name in a `Host` header.

    That is any IP address, `localhost`, and the name that the settings give. An address beyond
    this machine may also be asked by a name without a dot, and by names of private networks.
    """
    name = host_in(host).removesuffix(".")
    if not name:
        return False
    if _is_address(name.strip("[]")) or name == listens_on.lower():
        return True
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return not is_loopback(listens_on) and ("." not in name or name.endswith(_PRIVATE_NAMES))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _announces_body(name: str, value: str) -> bool:
    return name == "transfer-encoding" or (name == "content-length" and value.strip("0") != "")
