"""QStash on your desk: a stand-in that speaks QStash's v2 API, for development and tests.

It signs, delays, retries, deduplicates and calls back as the service does, keeps its state in
Redis, and delivers to this machine, which the service does not. It is no replacement for it: one
process, no plans and limits, public keys.
"""
