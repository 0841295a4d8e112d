"""What the server decides and does, whatever the protocol and whatever the runtime."""
