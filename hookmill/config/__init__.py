"""What is configured: settings, sources, and where secrets stand."""
