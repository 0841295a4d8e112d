"""What says which versions should be served."""
