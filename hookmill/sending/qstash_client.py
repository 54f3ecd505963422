"""`QStashClient`: makes requests to QStash's API, with its URL and token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hookmill.sending.exchange import HttpRequest, HttpResponse
from hookmill.sending.retry_policy import DEDUPLICATION_WINDOW, RetryPolicy
from hookmill.sending.send_errors import RequestInfo, hide_secrets
from hookmill.sending.transport import Transport
from hookmill.signatures import Secret

_T = TypeVar("_T")


class QStashClient:
    """Makes requests to QStash's API at `url`. The token appears in no repr and no error."""

    def __init__(
        self, url: str, token: str, transport: Transport, retry_policy: RetryPolicy
    ) -> None:
        scheme, separator, rest = url.rstrip("/").partition("://")
        authority, slash, path = rest.partition("/")
        self.url = url
        self._base = scheme + separator + authority
        self._path = slash + path
        self._token = Secret(token, "token")
        self._transport = transport
        self._retry_policy = retry_policy

    def without_secrets(self, text: str, *secrets: Secret) -> str:
        """Return a text without the token and these secrets."""
        return hide_secrets(text, (self._token, *secrets))

    async def request(
        self,
        info: RequestInfo,
        make: Callable[[], HttpRequest],
        read: Callable[[HttpResponse], _T | None],
    ) -> _T:
        """Make a request until `read` can read a response, and return what it read.

        `make` builds the request of each attempt. Raises `SendError`.
        """

        def authorized() -> HttpRequest:
            request = make()
            headers = {"Authorization": f"Bearer {self._token.text}", **request.headers}
            return request._replace(target=self._path + request.target, headers=headers)

        info = info._replace(
            base=self._base, secrets=(self._token, *info.secrets), window=DEDUPLICATION_WINDOW
        )
        return await self._transport.send(info, authorized, read, self._retry_policy)
