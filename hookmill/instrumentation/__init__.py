"""What happened, as a few named facts, and what listens to them."""
