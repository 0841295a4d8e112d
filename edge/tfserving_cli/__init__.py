"""The command `tensorflow_model_server`: TensorFlow Serving's flags and files → the same Config, and the same server.

Rule: what it prints and leaves with where it cannot start is TensorFlow Serving's; what a flag asks for and does not get is
said in one line. Source: tensorflow_serving/model_servers/main.cc.
"""

from edge.tfserving_cli.main import main

__all__ = ["main"]
