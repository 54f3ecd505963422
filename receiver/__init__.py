"""Program 1: takes deliveries over HTTP, verifies them, and appends them to the stream."""
