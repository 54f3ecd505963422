"""Everything behind `Sender`: it checks an event, signs it and sends it."""
