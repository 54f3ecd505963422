"""The receiver program: takes deliveries over HTTP, verifies them, appends them to the stream."""
