"""TensorFlow Serving's flags and files, and what they are in this server's configuration."""
