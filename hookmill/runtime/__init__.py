"""What a process needs to run: signals, logs, background tasks, the user's modules."""
