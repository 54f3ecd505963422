"""URLs and names: which are refused, and how they are shown."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill.sending.urls import base_of, check_destination, check_name, check_url, shown

URL = "https://app.example/hook"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.example/hook",
        "ftp://app.example",
        "HTTPS://app.example",
        "https://",
        "https:///path",
        "https://app.example/a b",
        "https://app.example/a\n",
        "https://app.example/a\r\nX-Y: 1",
        "https://app.example/\0",
        "https://app.example/ä",
        "https://bücher.example/",
        "https://app.example\\@evil.example",
        "https://app.example:port",
        "https://app.example:0",
        "https://[::1",
        "https://a..example",
        f"https://{'a' * 64}.example",
        " https://app.example",
        "my-group",
        None,
    ],
)
def test_an_invalid_url_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match=r"^url: "):
        check_url("url", url)


@pytest.mark.parametrize(
    "query",
    [
        "qstash_token=x",
        "a=1&Upstash-Delay=9d",
        "upstash%2Dcallback=https://e.example",
        "a;upstash-x",
        "a=1#&upstash-delay=9d",
    ],
)
def test_a_subscribers_url_cannot_contain_options(query: str) -> None:
    with pytest.raises(ValueError, match=r"^url: QStash would read"):
        check_destination("url", f"{URL}?{query}")
    assert check_url("url", f"{URL}?{query}")  # its own query, where QStash is not asked
    with pytest.raises(ValueError, match=r"^url: QStash would read"):
        check_destination("url", f"{URL}#fragment?{query}")  # in a path, `#` ends nothing


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a?b", "ä", "x" * 256, "a%2F", None])
def test_a_name_that_would_change_the_path_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^queue: "):
        check_name("queue", name)
    assert check_name("queue", "a.B-c_1") == "a.B-c_1"


def test_a_shown_url_contains_no_password_and_no_query() -> None:
    url = "https://user:secret@app.example:8080/hook?token=secret#secret"
    assert shown(url) == "https://app.example:8080/hook?..."
    assert base_of(url) == "https://user:secret@app.example:8080"
    assert base_of("https://app.example?x") == "https://app.example"
