"""The chaos run: real processes, a seeded schedule of faults, and a ledger that decides the result.

    make chaos                                   100,000 messages, 200 faults
    python -m tests.chaos --messages 5000 --faults 8 --seed 7 --only "slow line"
    python -m tests.chaos --minutes 30           a soak, which also looks for growing memory
    python -m tests.chaos --cluster              on a Redis Cluster (tests/chaos/cluster.py)

Two receivers with a shared spool and three workers reach a Redis master through proxies; a replica
follows it. Senders send a delivery again until it is accepted. Half of the messages have an
ordering key. Meanwhile programs and Redis are killed and frozen, connections are cut, forgotten and
slowed down, master and replica change their roles, the clock of Redis steps, the disk of the spool
is full, and a worker takes too much memory. A fault happens when a given number of deliveries has
been accepted, so one seed always gives one schedule. Everything is bounded in count and time.
"""
