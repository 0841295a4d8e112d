"""DNS-SD: the local network is told of this server."""
