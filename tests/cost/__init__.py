"""What a message costs, counted: `make cost` prints it, and a test holds each step to its bound."""
