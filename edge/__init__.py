"""The edge model server."""
