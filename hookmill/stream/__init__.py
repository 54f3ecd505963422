"""The only room that speaks Redis: the stream, its consumer groups, and the scripts.

Every step that decides something is one Lua script under `scripts/`; each states its keys,
arguments and reply. All keys of a partition share a hash tag, so that every script stays in one
cluster slot. Redis' errors leave here as `StreamUnavailableError` or `GroupLostError`.
"""
