"""One module a command: its configuration, its function, its door from the shell."""
