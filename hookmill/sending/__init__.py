"""How a message is made ready and handed over: what stands behind `Sender`."""
