"""The worker program: takes messages from the stream and runs their handlers."""
