"""How programs reach Redis: what `hookmill check` says of a URL."""

from __future__ import annotations

import pytest

from hookmill.admin.access_checks import judge_access

TLS = "used without TLS"
PASSWORD = "used without a password"
UNCHECKED = "certificate of Redis is not checked"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://localhost:6379", []),
        ("redis://LOCALHOST", []),
        ("redis://redis.localhost/0", []),
        ("redis://127.0.0.1/0", []),
        ("redis://127.9.9.9/0", []),
        ("redis://[::1]:6379/0", []),
        ("unix:///run/redis.sock?db=0", []),
        ("redis://redis:6379/0", [TLS, PASSWORD]),
        ("redis://10.0.0.5", [TLS, PASSWORD]),
        ("redis://someone@10.0.0.5", [TLS, PASSWORD]),
        ("redis://:secret@redis:6379/0", [TLS]),
        ("redis://redis/0?password=secret", [TLS]),
        ("redis://not-localhost", [TLS, PASSWORD]),
        ("rediss://redis:6379/0", [PASSWORD]),
        ("rediss://user:secret@redis:6379/0", []),
        ("rediss://redis/0?ssl_certfile=/c&ssl_keyfile=/k", []),
        ("redis://redis/0?ssl_certfile=/c&ssl_keyfile=/k", [TLS, PASSWORD]),
        ("rediss://:secret@redis/0?ssl_cert_reqs=required", []),
        ("rediss://:secret@redis/0?ssl_check_hostname=True", []),
        ("rediss://:secret@redis/0?ssl_cert_reqs=none", [UNCHECKED]),
        ("rediss://:secret@redis/0?ssl_cert_reqs=optional", [UNCHECKED]),
        ("rediss://:secret@redis/0?ssl_check_hostname=no", [UNCHECKED]),
    ],
)
def test_a_server_on_another_machine_needs_tls_and_a_password(url: str, found: list[str]) -> None:
    findings = list(judge_access(url))
    assert [finding.level for finding in findings] == ["warning"] * len(found)
    for finding, what in zip(findings, found, strict=True):
        assert what in finding.what
        assert "secret" not in f"{finding.what}{finding.why}{finding.do}"
