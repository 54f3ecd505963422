"""URL groups: a name, and the URLs that get each of its messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from hookmill.emulator.models import ApiError, Endpoint, UrlGroup
from hookmill.emulator.state import State


class UrlGroups:
    """The URL groups there are. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms

    def all(self) -> list[UrlGroup]:
        """Return every group."""
        return self._state.topics.all()

    def get(self, name: str) -> UrlGroup:
        """Return one; raise `ApiError` 404 where there is none."""
        return self._state.topics.get(name)

    def add(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Add URLs to a group, which is made if need be; the name of one that is there changes."""
        now = self._now_ms()
        group = self._state.topics.find(name) or UrlGroup(name, now, now)
        urls = {endpoint.url: endpoint for endpoint in (*group.endpoints, *endpoints)}
        self._put(group, tuple(urls.values()))

    def remove(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Remove URLs, given by URL or by name; with its last one the group goes."""
        group = self.get(name)
        for unwanted in endpoints:
            if not any(_is(unwanted, endpoint) for endpoint in group.endpoints):
                raise ApiError(404, f"endpoint {unwanted.name or unwanted.url!r} not found")
        kept = tuple(
            endpoint
            for endpoint in group.endpoints
            if not any(_is(unwanted, endpoint) for unwanted in endpoints)
        )
        if kept:
            self._put(group, kept)
        else:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Remove a group; raise `ApiError` 404 where there is none."""
        self.get(name)
        self._state.topics.drop(name)

    def _put(self, group: UrlGroup, endpoints: tuple[Endpoint, ...]) -> None:
        changed = msgspec.structs.replace(group, endpoints=endpoints, updated_ms=self._now_ms())
        self._state.topics.put(group.name, changed)


def _is(given: Endpoint, endpoint: Endpoint) -> bool:
    return bool(
        (given.url and given.url == endpoint.url) or (given.name and given.name == endpoint.name)
    )
