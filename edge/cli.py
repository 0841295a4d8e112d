"""Arguments → what to do; the only exit codes."""


def main() -> None:
    raise SystemExit(2)
