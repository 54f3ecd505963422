"""What the benchmarks have measured, for `capacity.py`. Made by `docs/generate.py` from
`benchmarks/results`: do not edit it, but run `make bench` and `make docs`.
"""

from __future__ import annotations

from hookmill.admin.figures import BySize, Figures, InBatches

MEASURED = Figures(
    machine="AMD EPYC, Python 3.11.2",
    date="2026-11-30",
    receiver_us=49.42,
    worker_us=26.56,
    redis_us=32.87,
    one_core=9120.0,
    answer_ms=0.7122,
    waiting_share=0.9505,
    clearing=12.8,
    receiver_most_mb=78.82,
    token_bytes=106.1,
    append=InBatches(small=(32, 7.237), large=(200, 5.714)),
    take=InBatches(small=(32, 6.673), large=(200, 4.704)),
    settle=InBatches(small=(32, 0.855), large=(200, 0.784)),
    half_load_ms=(2.642, 6.992),
    receiver_by_size=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(42.29, 40.71, 108.3, 790.7, 6973.0),
    ),
    worker_by_size=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(17.46, 18.67, 34.83, 386.8, 3721.0),
    ),
    redis_by_size=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(31.8, 39.26, 118.5, 859.3, 11280.0),
    ),
    receiver_mb=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(67.52, 67.8, 70.52, 81.51, 99.21),
    ),
    worker_mb=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(64.26, 64.44, 65.45, 78.88, 86.71),
    ),
    stored_bytes=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(577.7, 2707.0, 20630.0, 229600.0, 2096000.0),
    ),
    to_redis=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(640.1, 2428.0, 20460.0, 200600.0, 2001000.0),
    ),
    from_redis=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(528.4, 2316.0, 20380.0, 200400.0, 2000000.0),
    ),
    to_replica=BySize(
        sizes=(214, 2_000, 20_000, 200_000, 2_000_000),
        values=(1035.0, 2824.0, 20900.0, 201000.0, 2001000.0),
    ),
)
