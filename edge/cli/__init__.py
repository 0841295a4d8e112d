"""Arguments → what to do; the only exit codes.

Rule 1: data on standard output, messages on standard error. Rule 2: what a command needs is imported inside it.
"""

from edge.cli.root import main

__all__ = ["main"]
