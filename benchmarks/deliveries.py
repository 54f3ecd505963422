"""QStash deliveries, signed in advance: complete requests of equal length in a file.

The load generator only copies the bytes of a request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.peers.counting import BODY, order

KEY = "sig_bench_current_2f4e6a8c0b1d3957"
LIFETIME = 3600
"""Seconds that a token is valid. It is longer than any run, so that all rounds share a file."""

_WRK = """
local file = io.open("{path}", "rb")
file:seek("set", {first})
function request()
  local whole = file:read({size})
  if not whole then
    file:seek("set")
    whole = file:read({size})
  end
  return whole
end
function done(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %f\\n", summary.requests, summary.duration, bad,
    latency:percentile(99.0)))
end
"""


def environment(redis_url: str, port: int) -> dict[str, str]:
    """Return the environment of a server that accepts these deliveries."""
    return {
        "REDIS_URL": redis_url,
        "PORT": str(port),
        "QSTASH_CURRENT_SIGNING_KEY": KEY,
        "HOOKMILL_HOST": "127.0.0.1",
        "HOOKMILL_PREFIX": "bench",
    }


def delivery(
    number: int, issued: int, path: str = "/qstash", body_size: int = BODY
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a delivery."""
    body = msgspec.json.encode(order(number, body_size))
    claims = {
        "aud": "",
        "body": base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode(),
        "exp": issued + LIFETIME,
        "iat": issued,
        "iss": "Upstash",
        "jti": f"jwt_{number:024d}",
        "nbf": issued,
        "sub": f"https://app.example{path}",
    }
    signed = _HEAD + b"." + _encode(msgspec.json.encode(claims))
    signature = _encode(hmac.digest(KEY.encode(), signed, "sha256"))
    headers = {
        "Content-Type": "application/json",
        "Upstash-Message-Id": f"msg_{number:024d}",
        "Upstash-Retried": "0",
        "Upstash-Signature": (signed + b"." + signature).decode(),
        "User-Agent": "Upstash-QStash",
    }
    return headers, body


def request(number: int, issued: int, path: str = "/qstash", body_size: int = BODY) -> bytes:
    """Return the bytes of a delivery. All deliveries have the same length."""
    headers, body = delivery(number, issued, path, body_size)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: app.example\r\n{lines}Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def requests(count: int, body_size: int = BODY) -> Iterator[bytes]:
    """Return `count` deliveries with different IDs."""
    issued = int(time.time()) - 1
    return (request(number, issued, body_size=body_size) for number in range(count))


def write(path: Path, count: int, body_size: int = BODY) -> int:
    """Write `count` deliveries to a file; return the length of one."""
    size = 0
    with path.open("wb") as file:
        for one in requests(count, body_size):
            size = len(one)
            file.write(one)
    return size


def write_script(path: Path, deliveries: Path, size: int, first: int = 0) -> None:
    """Write the script with which wrk sends the file's requests, from the `first` one on."""
    path.write_text(_WRK.format(path=deliveries, size=size, first=first * size))


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


_HEAD = _encode(b'{"alg":"HS256","typ":"JWT"}')
