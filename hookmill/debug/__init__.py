"""What `hookmill send` and `hookmill verify` need: simulate a sender, explain a verdict."""
