"""QStash on your desk: a stand-in that speaks QStash's v2 API, for development and tests.

It signs, delays, retries, deduplicates and calls back as the service does, keeps its state in
Redis, and delivers to this machine, which the service does not. It is no replacement for it: one
process, no plans and limits, public keys.
"""

DEVELOPMENT_TOKEN = "eyJVc2VySUQiOiJkZWZhdWx0VXNlciIsIlBhc3N3b3JkIjoiZGVmYXVsdFBhc3N3b3JkIn0="  # noqa: S105
"""The published token of QStash's own development server."""
