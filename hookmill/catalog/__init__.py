"""Ready-made events of known senders, one module for each sender."""
