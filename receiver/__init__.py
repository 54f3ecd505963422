"""Program 1: says yes quickly. HTTP in, stream out."""
