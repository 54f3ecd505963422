"""The command line, a file for each family of commands. No other room of the package prints."""
