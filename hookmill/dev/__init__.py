"""Everything on one machine, for development."""
