"""Failures that users of other systems reported (lost, repeated or stuck messages), forced upon
our programs.

One file for each kind of failure; each test names the reports that it answers. What the files
share: `work` (handlers and workers), `view` (what Redis shows), `deliveries` (receivers, senders).
"""
