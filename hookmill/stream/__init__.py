"""The only package that speaks Redis: the stream, its consumer groups, and the scripts.

Every step that decides something is one Lua script under `scripts/`, which states its keys,
arguments and reply. All keys of a partition share a hash tag, so that every script stays in one
cluster slot. Redis' errors leave this package as `StreamUnavailableError` or `GroupLostError`.
"""
