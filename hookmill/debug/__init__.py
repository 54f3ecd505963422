"""What `hookmill send` and `hookmill verify` need: imitate a sender, explain a verdict."""
