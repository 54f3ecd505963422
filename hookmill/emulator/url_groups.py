"""URL groups: a name, and the URLs that each receive its messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from hookmill.emulator.models import ApiError, Endpoint, UrlGroup
from hookmill.emulator.state import State


class UrlGroups:
    """All URL groups. `now_ms` is the clock."""

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms

    def all(self) -> list[UrlGroup]:
        """Return every group."""
        return self._state.url_groups.all()

    def get(self, name: str) -> UrlGroup:
        """Return a group; raise `ApiError` 404 if it is unknown."""
        return self._state.url_groups.get(name)

    def add(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Add URLs to a group, and create it if needed. A URL that it has already is renamed."""
        now = self._now_ms()
        group = self._state.url_groups.find(name) or UrlGroup(name, now, now)
        urls = {endpoint.url: endpoint for endpoint in (*group.endpoints, *endpoints)}
        self._put(group, tuple(urls.values()))

    def remove(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Remove URLs, given by URL or by name. A group without URLs is deleted."""
        group = self.get(name)
        for unwanted in endpoints:
            if not any(_matches(unwanted, endpoint) for endpoint in group.endpoints):
                raise ApiError(404, f"endpoint {unwanted.name or unwanted.url!r} not found")
        kept = tuple(
            endpoint
            for endpoint in group.endpoints
            if not any(_matches(unwanted, endpoint) for unwanted in endpoints)
        )
        if kept:
            self._put(group, kept)
        else:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Delete a group; raise `ApiError` 404 if it is unknown."""
        self.get(name)
        self._state.url_groups.drop(name)

    def _put(self, group: UrlGroup, endpoints: tuple[Endpoint, ...]) -> None:
        changed = msgspec.structs.replace(group, endpoints=endpoints, updated_ms=self._now_ms())
        self._state.url_groups.put(group.name, changed)


def _matches(given: Endpoint, endpoint: Endpoint) -> bool:
    return bool(
        (given.url and given.url == endpoint.url) or (given.name and given.name == endpoint.name)
    )
