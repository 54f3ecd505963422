"""Ready-made events of known senders, one module per sender."""
