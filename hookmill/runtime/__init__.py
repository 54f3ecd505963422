"""What every program needs to run as a process: its event loop and signals, logs, background
tasks, the admin address, the user's modules, and the embedded server for development.
"""
