"""The messages of the gRPC services: definitions, and classes made from them."""
