"""Benchmarks on this machine. Each is a command: `python -m benchmarks.NAME`."""
