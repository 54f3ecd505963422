"""An emulator of QStash's v2 API, for development and tests. `hookmill qstash` runs it.

It signs, delays, retries, deduplicates and calls back as QStash does, and keeps its state in Redis.
Unlike QStash it can deliver to this machine. It does not replace QStash: it is one process, has no
plans and quotas, and signs with public keys by default.
"""
