"""The ports of the server: I/O only."""
