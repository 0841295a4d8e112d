"""The command `edge`, with every blocking call on its event loop written to the file that $BLOCKING_LOG names.

What it calls a blocking call, see https://github.com/cbornet/blockbuster. Such a call raises, too; but who called may
take that for an error like others, and nobody would hear of it.
"""

from __future__ import annotations

import os
import traceback

from blockbuster import BlockBuster, BlockingError

from edge.cli import main

# Not blocking, so that to write down what blocks is no such call itself.
log = os.open(os.environ["BLOCKING_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK)


class Recorded(BlockingError):
    def __init__(self, func: str) -> None:
        super().__init__(func)
        os.write(log, "".join(["--\n", *traceback.format_stack(limit=25)[:-1]]).encode())


def watch() -> None:
    """Until the process ends."""
    import blockbuster.blockbuster as module

    module.BlockingError = Recorded  # type: ignore[misc]
    watched = BlockBuster()
    # A line of log is one write to standard error: see edge.telemetry.logs.
    watched.functions["os.write"].can_block_in("edge/telemetry/logs.py", "_write")
    # From Python 3.13 on uvloop looks at the socket's file itself, once as it opens and once as it closes.
    for name in ("os.stat", "os.unlink"):
        watched.functions[name].can_block_in("edge/frontends/http/listener.py", {"listen_unix", "close"})
    watched.activate()


if __name__ == "__main__":
    watch()
    main()
