"""The fuzz run: mutated requests against a real receiver, and a verdict.

    make fuzz                                    1,000,000 requests
    python -m tests.fuzz_requests --requests 20000 --seed 7

What a run or a person has found once is kept in `corpus.json` and sent first.

A receiver with many sources listens on loopback. It gets signed deliveries and handshakes, mixed
with changed copies of them: another method or path, damaged signatures and bodies, headers that are
missing, doubled, huge or of any bytes, JSON that is hard to parse, wrong lengths, half requests,
and several requests at once. Some bodies are as large as the limit, and made to be dear to read
(`tests/signatures/worst_bodies.py`). Some come from an HTTP client. Most are written to the socket
as raw bytes. Every signed delivery has to be accepted and stored, and no request that was changed
after it was signed may be stored. No request may cause an error in the receiver, make its memory
grow, or fill its log. One seed draws the same mutations for each connection.
"""
