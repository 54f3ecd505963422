"""Program 2: does the work. Stream in, handlers out."""
