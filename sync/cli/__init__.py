"""The command `edge-sync`: arguments → what to do, and the only exit codes."""

from __future__ import annotations


def main() -> int:
    """0 ok, 1 failure, 2 wrong arguments or configuration, 3 not found, 4 unreachable, 5 verification failed, 130 interrupted."""
    from sync.cli.root import run

    return run()
